"""Children on this machine: each in a session of its own, with a pipe that closes when we are gone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from atrium.engines.memory import read_left

OURS = "ATRIUM_"
"""Settings and secrets of the server begin so; no child is given one."""
PAGE = os.sysconf("SC_PAGE_SIZE")


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not name.startswith(OURS)}


class LocalChild:
    """One running child. `close` must be called once, after its end."""

    def __init__(self, process: asyncio.subprocess.Process, pipe: int) -> None:
        self._process = process
        self._pipe = pipe

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait(self) -> int:
        """Exit code; negative: the signal that ended it."""
        return await self._process.wait()

    def ask_to_end(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def memory(self) -> int:
        """Bytes of resident memory; 0 when it is gone. Reads a file of the kernel's."""
        try:
            fields = Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()
        except OSError:
            return 0
        return int(fields[1]) * PAGE

    def close(self) -> None:
        os.close(self._pipe)

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)


class Measurable(Protocol):
    def measure(self) -> None: ...


@dataclass(frozen=True, slots=True)
class LocalPlacement:
    environment: Mapping[str, str]
    """What children see of ours, already without secrets."""
    memory_left: Callable[[], int] = read_left
    """Bytes that the machine has left; may raise OSError."""

    def measure(self, runners: Sequence[Measurable]) -> int | None:
        """Look at each runner's memory, and give what the machine has left, None where it does not say. Blocking."""
        for runner in runners:
            runner.measure()
        with contextlib.suppress(OSError):
            return self.memory_left()
        return None

    async def start(self, command: tuple[str, ...], more: Mapping[str, str], log: IO[bytes]) -> LocalChild:
        """Start a program. Raises OSError."""
        theirs, ours = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=theirs,
                stdout=log,
                stderr=log,
                env={**self.environment, **more},
                # Ctrl-C at a terminal is for the server, which lets running answers end.
                start_new_session=True,
            )
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        return LocalChild(process, ours)
