"""The real program as a child process, the way a user starts it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from typing import IO

import httpx2

from tests.children import Child, completed

Process = Child | subprocess.Popen[bytes]
ATRIUM = (sys.executable, "-m", "atrium")
KEY = re.compile(r"lollms_[0-9a-f]{16}_[0-9a-f]{48}")
ADDRESS = re.compile(r"https?://[^\s/]+:\d+")
PATIENCE = 60.0


NO_LIMITS = {
    "ATRIUM_LIMITS__GLOBAL_PER_MINUTE": "0",
    "ATRIUM_LIMITS__PER_IP_PER_MINUTE": "0",
    "ATRIUM_LIMITS__HEALTH_PER_MINUTE": "0",
}
"""Tests ask more often than a person may, all from one address."""


def environment(home: Path, **more: str) -> dict[str, str]:
    """A fresh HOME, nothing of the developer's own settings, and pip's settings kept so that models can come."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ATRIUM_", "XDG_"))}
    return {**kept, "HOME": str(home), "PYTHONUNBUFFERED": "1", **NO_LIMITS, **more}


def command(data_dir: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run one command of the program on a data folder."""
    return completed((*words, "--data-dir", str(data_dir)), environment(data_dir.parent, **more), PATIENCE * 5)


@dataclass
class RunningServer:
    """A server process with what it printed at its start."""

    process: Process
    data_dir: Path
    lines: Queue[str]
    said: list[str] = field(default_factory=list[str])
    url: str = ""
    key: str = ""

    def client(self, *, key: str | None = None, timeout: float = PATIENCE) -> httpx2.Client:
        """An HTTP client with this server's key."""
        headers = {"Authorization": f"Bearer {self.key if key is None else key}"}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=timeout, trust_env=False)

    def install(self, *sources: str) -> None:
        """Returns once these models are there; asks the administrator's API, which spares a start of the program."""
        with self.client() as client:
            begun = client.post("/api/admin/models/install", json={"sources": sources})
            assert begun.status_code == 202, begun.text
            names = {one["name"] for one in begun.json()["installing"]}
            deadline = time.monotonic() + PATIENCE
            while mine := [one for one in client.get("/api/admin/models").json()["installing"] if one["name"] in names]:
                assert not any(one["error"] for one in mine), mine
                assert time.monotonic() < deadline, mine

    def read_banner(self, *, key: bool) -> None:
        """Wait for the address, and at a first start for the key."""
        while not (self.url and (self.key or not key)):
            line = self.lines.get(timeout=PATIENCE)
            self.said.append(line)
            if found := ADDRESS.search(line):
                self.url = self.url or found.group()
            if found := KEY.search(line):
                self.key = self.key or found.group()

    def stop(self, sign: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(sign)
        return self.process.wait(PATIENCE)


def pump(stream: IO[str], lines: Queue[str]) -> None:
    with stream:
        for line in stream:
            lines.put(line)


@contextmanager
def running(data_dir: Path, *options: str, key: str = "", **more: str) -> Generator[RunningServer]:
    """Start the server on a free port and wait until it answers; its log is `server.log` beside the data folder.

    `key` is a key that is known already; without one the server must print one, as it does at its first start.
    """
    with attended(forked, data_dir, options, environment(data_dir.parent, **more), key) as server:
        yield server


@contextmanager
def first_start(data_dir: Path) -> Generator[RunningServer]:
    """The same for a start that loads the program, as a user's does."""
    with attended(loaded, data_dir, (), environment(data_dir.parent), "") as server:
        yield server


def forked(words: tuple[str, ...], env: dict[str, str], stdout: int, stderr: int) -> Process:
    return Child(words, env, stdout=stdout, stderr=stderr)


def loaded(words: tuple[str, ...], env: dict[str, str], stdout: int, stderr: int) -> Process:
    return subprocess.Popen((*ATRIUM, *words), env=env, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr)


@contextmanager
def attended(
    start: Callable[[tuple[str, ...], dict[str, str], int, int], Process],
    data_dir: Path,
    options: tuple[str, ...],
    env: dict[str, str],
    key: str,
) -> Generator[RunningServer]:
    log = data_dir.parent / "server.log"
    said, stdout = os.pipe()
    words = ("serve", "--port", "0", "--data-dir", str(data_dir), *options)
    with log.open("a") as stderr:
        process = start(words, env, stdout, stderr.fileno())
    os.close(stdout)
    server = RunningServer(process, data_dir, Queue(), key=key)
    reader = threading.Thread(target=pump, args=(os.fdopen(said), server.lines), daemon=True)
    reader.start()
    try:
        server.read_banner(key=not key)
        wait_until_healthy(server)
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        reader.join(PATIENCE)


def wait_until_healthy(server: RunningServer) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            if httpx2.get(f"{server.url}/internal/health", trust_env=False).status_code == 200:
                return
        except httpx2.TransportError:
            continue
    raise AssertionError((server.data_dir.parent / "server.log").read_text()[-4000:])
