"""Programs of this bench: started on a core of their own, waited for, stopped at the end."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.relay.cores import pinned

PATIENCE = 120.0


@contextmanager
def started(command: Sequence[str], *, core: int, port: int, log: Path, **environment: str) -> Generator[int]:
    """The process's id once its port accepts. Raises RuntimeError with the end of its log."""
    with log.open("ab") as out, pinned(core):
        environ = {**os.environ, **environment}
        process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=environ)
    try:
        deadline = time.monotonic() + PATIENCE
        while not accepts(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} did not start: {log.read_text(errors='replace')[-500:]}")
            time.sleep(0.05)
        yield process.pid
    finally:
        stop(process)


def accepts(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
