"""Child processes that are forks of the loaded program: they start in no time, and end as any process does."""

from __future__ import annotations

import atexit
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
"""A process with threads is none to fork."""
LONGEST_REPORT = 32


@functools.cache
def forks() -> socket.socket:
    """Takes orders for as long as this process lives."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            (sys.executable, "-m", "tests.forks", str(theirs.fileno())),
            env={**os.environ, **ONE_THREAD},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
        )

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


class Child:
    """As much of `subprocess.Popen` as tests need."""

    def __init__(self, words: tuple[str, ...], environment: Mapping[str, str], *, stdout: int, stderr: int) -> None:
        self.words = words
        self.returncode: int | None = None
        self._reports, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        order = {"words": words, "environment": dict(environment), "folder": str(Path.cwd())}
        with theirs, Path(os.devnull).open() as nothing:
            handed = [nothing.fileno(), stdout, stderr, theirs.fileno()]
            socket.send_fds(forks(), [json.dumps(order).encode()], handed)
        self.pid = int(self._reports.recv(LONGEST_REPORT))

    def wait(self, timeout: float | None = None) -> int:
        """Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            self._reports.settimeout(timeout)
            try:
                self.returncode = int(self._reports.recv(LONGEST_REPORT))
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(self.words, timeout or 0) from None
            self._reports.close()
        return self.returncode

    def poll(self) -> int | None:
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def send_signal(self, sign: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, sign)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def completed(
    words: tuple[str, ...], environment: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run`, with what was said. Raises subprocess.TimeoutExpired."""
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        child = Child(words, environment, stdout=stdout.fileno(), stderr=stderr.fileno())
        try:
            code = child.wait(timeout)
        finally:
            child.kill()
        stdout.seek(0)
        stderr.seek(0)
        return subprocess.CompletedProcess(words, code, stdout.read(), stderr.read())
