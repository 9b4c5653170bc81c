"""Fake endpoints, and a server in front of them."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import yaml

from tests.running import RunningServer, environment, running

PROGRAM = (sys.executable, "-m", "atrium.engines.workers.fake_endpoint")


@dataclass
class Fake:
    name: str
    kind: str = "openai"
    models: Sequence[str] = ("m1",)
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    port: int = 0
    cert: Path | None = None
    v1: bool = True
    """For Ollama: whether it serves OpenAI's paths as well."""
    process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """On the port that it had before, if it had one."""
        command = (*PROGRAM, "--port", str(self.port), "--kind", self.kind, "--models", ",".join(self.models))
        if self.cert:
            command += ("--cert", str(self.cert))
        if not self.v1:
            command += ("--without-v1",)
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(Path.home()))
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()

    def counts(self) -> dict[str, int]:
        return httpx2.get(f"http://127.0.0.1:{self.port}/counts", trust_env=False).json()

    def when(self, **counts: int) -> None:
        """Returns once so many requests are under way (`in_flight`), or so many connections closed (`hung_up`)."""
        httpx2.get(f"http://127.0.0.1:{self.port}/when", params=counts, trust_env=False, timeout=20).raise_for_status()

    def last(self) -> dict[str, Any]:
        """The request that it answered last."""
        return httpx2.get(f"http://127.0.0.1:{self.port}/last", trust_env=False).json()

    @property
    def config(self) -> dict[str, Any]:
        scheme = "https" if self.cert else "http"
        own = {"name": self.name, "url": f"{scheme}://127.0.0.1:{self.port}", "type": self.kind}
        return {**own, "check_interval": "500ms", "check_timeout": "1s", **self.options}


@contextmanager
def gateway(
    folder: Path,
    fakes: Sequence[Fake],
    *,
    dead: Sequence[dict[str, Any]] = (),
    more: dict[str, Any] | None = None,
    env: dict[str, str] | None = None,
    key: str = "",
) -> Generator[RunningServer]:
    """A server with these endpoints, and some that never answer; all fakes end with it."""
    with ExitStack() as stack:
        for fake in fakes:
            fake.start()
            stack.callback(fake.kill)
        config = folder / "gateway.yaml"
        endpoints = [*(fake.config for fake in fakes), *dead]
        settings: dict[str, Any] = {"endpoints": endpoints, "models": {"install_defaults": False}, **(more or {})}
        config.write_text(yaml.safe_dump(settings))
        yield stack.enter_context(running(folder / "data", "--config", str(config), key=key, **(env or {})))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
