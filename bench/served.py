"""Starts the real server on a data folder with the default models installed, as a user would."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.wire import Door

ATRIUM = (sys.executable, "-m", "atrium")
PATIENCE = 300.0
UNLIMITED = {"ATRIUM_LIMITS__GLOBAL_PER_MINUTE": "0", "ATRIUM_LIMITS__PER_IP_PER_MINUTE": "0"}
"""A bench asks more of one address than a server lets anybody by default."""


@dataclass(frozen=True, slots=True)
class Served:
    process: subprocess.Popen[str]
    door: Door
    data_dir: Path
    healthy_after: float
    """Seconds from exec to the first healthy answer."""

    def sockets(self) -> list[Path]:
        """The sockets of running models."""
        return sorted(p for p in (self.data_dir / "run").iterdir() if p.name != "atrium.sock")


def healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/internal/health", timeout=1) as answer:
            return answer.status == 200
    except OSError:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run(data_dir: Path, *words: str) -> str:
    """A command of Atrium's on this data folder; its stdout."""
    done = subprocess.run((*ATRIUM, *words, "--data-dir", str(data_dir)), check=True, capture_output=True, text=True)
    return done.stdout


@contextmanager
def served(data_dir: Path, **environment: str) -> Generator[Served]:
    """The server, healthy, with a key of its own; stopped at the end."""
    port = free_port()
    environ = {**os.environ, "ATRIUM_MODELS__INSTALL_DEFAULTS": "false", **UNLIMITED, **environment}
    # What a user's machine has compiled once it need not compile again.
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    command = (*ATRIUM, "serve", "--port", str(port), "--data-dir", str(data_dir))
    with (data_dir.parent / "server.log").open("a") as log:
        start = time.perf_counter()
        process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=log, text=True)
        while not healthy(port):
            if process.poll() is not None or time.perf_counter() - start > PATIENCE:
                raise RuntimeError(f"the server did not start; see {log.name}")
            time.sleep(0.005)
        after = time.perf_counter() - start
        try:
            alias = f"bench-{time.time_ns()}"
            key = run(data_dir, "keys", "create", "--user", "admin", "--alias", alias, "--quiet").strip()
            if not re.fullmatch(r"lollms_[0-9a-f]{16}_[0-9a-f]{48}", key):
                raise RuntimeError(f"not a key: {key!r}")
            yield Served(process, Door(port=port, key=key), data_dir, after)
        finally:
            process.terminate()
            process.wait(30)
