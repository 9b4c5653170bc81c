"""What runners may take and where their things lie."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from atrium.engines.logs import RunnerLog
from atrium.engines.memory import read_budget, read_memory
from atrium.engines.process import Launch
from atrium.engines.recipes.recipe import Plan
from atrium.settings.tree import Limits, ModelSettings

SOCKET = ".sock"
"""llama.cpp takes an address for a unix socket by this ending."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bytes and seconds."""

    memory: int
    """For all runners together."""
    reserve: int
    """What the machine keeps free of them whatever other programs take."""
    keep_alive: float
    load_timeout: float
    hang_timeout: float
    """How long a runner may leave a question after its health unanswered."""
    queue: int
    queue_timeout: float
    look: float = 1.0
    """Between two looks at the memory."""


@dataclass(frozen=True, slots=True)
class Folders:
    run: Path
    logs: Path
    seen: Path
    """The file that remembers what models were seen to take."""

    def clear_sockets(self) -> None:
        """Of a server that was killed. Blocking."""
        self.run.mkdir(mode=0o700, parents=True, exist_ok=True)
        for socket in self.run.glob("[0-9a-f]" * 8 + SOCKET):
            if socket.is_socket():
                socket.unlink(missing_ok=True)


def launch_of(model: str, plan: Plan, bounds: Bounds, folders: Folders) -> Launch:
    """What a process is started from, with a socket of its own."""
    return Launch(
        model=model,
        plan=plan,
        socket=folders.run / f"{secrets.token_hex(4)}{SOCKET}",
        log=RunnerLog(folders.logs, model),
        load_timeout=bounds.load_timeout,
        hang_timeout=bounds.hang_timeout,
    )


def bounds_of(models: ModelSettings, limits: Limits) -> Bounds:
    """On this machine. Raises ConfigError."""
    machine = read_memory()
    return Bounds(
        memory=read_budget(models.memory, machine),
        reserve=read_budget(models.reserve, machine, key="models.reserve"),
        keep_alive=models.keep_alive,
        load_timeout=models.load_timeout,
        hang_timeout=models.hang_timeout,
        queue=limits.queue,
        queue_timeout=limits.queue_timeout,
    )
