"""Loads the program once and forks for each start of it: `python -m tests.forks FD`.

A start takes more than a second of a core, nearly all of it imports, and the suite has hundreds. Over the socket `FD`
comes JSON with `words`, `environment` and `folder`, and with it four descriptors: standard input, output, error, and a
socket to report on: first the pid, then the exit code as `subprocess` tells it, a message each.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys

MOST_SAID = 256 * 1024


def wait_for_starts(orders: socket.socket) -> None:
    """Returns in the child that is to be the program; here only the end of the orders is an end."""
    while True:
        said, handed, _, _ = socket.recv_fds(orders, MOST_SAID, 4)
        if not said:
            os._exit(0)
        if os.fork() == 0 and is_the_program(*handed):
            orders.close()
            return become(**json.loads(said))
        for descriptor in handed:
            os.close(descriptor)


def is_the_program(stdin: int, stdout: int, stderr: int, report: int) -> bool:
    """Forks once more; the parent stays until the child has ended, and reports it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if pid := os.fork():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for descriptor in (stdin, stdout, stderr):
            os.close(descriptor)
        os.write(report, b"%d" % pid)
        _, status = os.waitpid(pid, 0)
        os.write(report, b"%d" % os.waitstatus_to_exitcode(status))
        os._exit(0)
    for number, descriptor in enumerate((stdin, stdout, stderr)):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.close(report)
    return True


def become(words: list[str], environment: dict[str, str], folder: str) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv[1:] = words


if __name__ == "__main__":
    importlib.import_module("atrium.cli")
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    wait_for_starts(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_module("atrium", run_name="__main__", alter_sys=True)
