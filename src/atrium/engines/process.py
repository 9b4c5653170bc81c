"""One life of one child: started, ready, ended, and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from atrium.core.endpoints import RunnerState
from atrium.engines.logs import RunnerLog, find_reason
from atrium.engines.placement.local import LocalChild, LocalPlacement
from atrium.engines.recipes.recipe import Plan

LONGEST_SOCKET = 107
"""Bytes of a unix socket's path that the kernel takes."""
FIRST_PROBE = 0.02
SLOWEST_PROBE = 0.05
PROBE_TIMEOUT = 2.0
TICK = 5.0
"""Seconds between two looks at a runner's health and log."""
STOP_GRACE = 5.0
"""Seconds from SIGTERM to SIGKILL."""
OUR_SIGNALS = (-signal.SIGTERM, -signal.SIGKILL)


class Change(Enum):
    START = "start"
    ANSWERED = "answered"
    STOP = "stop"
    EXITED = "exited"


TRANSITIONS: Mapping[RunnerState, Mapping[Change, RunnerState]] = {
    RunnerState.STOPPED: {Change.START: RunnerState.STARTING, Change.STOP: RunnerState.STOPPING},
    RunnerState.STARTING: {
        Change.ANSWERED: RunnerState.READY,
        Change.STOP: RunnerState.STOPPING,
        Change.EXITED: RunnerState.DEAD,
    },
    RunnerState.READY: {Change.STOP: RunnerState.STOPPING, Change.EXITED: RunnerState.DEAD},
    RunnerState.STOPPING: {Change.STOP: RunnerState.STOPPING, Change.EXITED: RunnerState.STOPPED},
    RunnerState.DEAD: {Change.STOP: RunnerState.DEAD},
}


@dataclass(frozen=True, slots=True)
class Launch:
    model: str
    plan: Plan
    socket: Path
    log: RunnerLog
    load_timeout: float
    """Seconds."""
    hang_timeout: float
    """Seconds that it may leave a question after its health unanswered."""


@dataclass(frozen=True, slots=True)
class Exit:
    asked: bool
    """It was told to end."""
    loaded: bool
    """It had been ready."""
    reason: str
    """Why it ended; empty when it did so because it was told to."""


class RunnerProcess:
    """`live` is awaited once, by the task that owns this life; everybody else may only `stop`."""

    def __init__(self, launch: Launch, placement: LocalPlacement) -> None:
        self.launch = launch
        self.state = RunnerState.STOPPED
        self.pid: int | None = None
        self.memory = 0
        """Bytes of resident memory when last looked at."""
        self.base = 0
        """The same right after it was loaded; 0 before."""
        self.peak = 0
        self._child: LocalChild | None = None
        self._hung = False
        self._placement = placement
        self._asked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._grace = STOP_GRACE

    def stop(self, *, grace: float = STOP_GRACE) -> None:
        """Ask this life to end; with no grace it is killed. Returns at once."""
        self._grace = min(self._grace, grace)
        self._move(Change.STOP)
        if not self._asked.done():
            self._asked.set_result(None)

    async def live(self, on_ready: Callable[[], None]) -> Exit:
        """From start to end; the child is gone when this returns or raises. `on_ready` is called at most once."""
        if self._asked.done():
            self._move(Change.EXITED)
            return Exit(asked=True, loaded=False, reason="")
        self._move(Change.START)
        try:
            child, since = await self._start()
        except OSError as refused:
            return self._exited(loaded=False, reason=f"could not be started: {refused.strerror or refused}")
        return await self._keep(child, since, on_ready)

    async def _start(self) -> tuple[LocalChild, int]:
        launch = self.launch
        if len(os.fsencode(launch.socket)) > LONGEST_SOCKET:
            raise OSError(f"the path of its socket is longer than {LONGEST_SOCKET} bytes")
        await self._unlink()
        log, since = await asyncio.to_thread(launch.log.open)
        with log:
            told = (f"--socket={launch.socket}", f"--parent={os.getpid()}")
            child = await self._placement.start((*launch.plan.command, *told), launch.plan.environment, log)
        self.pid = child.pid
        self._child = child
        return child, since

    async def _keep(self, child: LocalChild, since: int, on_ready: Callable[[], None]) -> Exit:
        gone = asyncio.create_task(child.wait(), name=f"{self.launch.model} exit")
        loaded = False
        try:
            loaded = await self._become_ready(gone)
            if loaded:
                self._move(Change.ANSWERED)
                on_ready()
                await self._look_after(gone)
            late = not gone.done() and not self._asked.done()
        finally:
            await self._end(child, gone)
        if self._hung:
            reason = f"hung: it did not answer for {self.launch.hang_timeout:g} s"
        elif late:
            reason = f"was not ready within {self.launch.load_timeout:g} s"
        elif self._asked.done() and gone.result() in OUR_SIGNALS:
            reason = ""
        else:
            reason = await self._reason(gone.result(), since)
        return self._exited(loaded=loaded, reason=reason)

    async def _become_ready(self, gone: asyncio.Task[int]) -> bool:
        ready = asyncio.create_task(_answers(str(self.launch.socket)), name=f"{self.launch.model} ready")
        try:
            await asyncio.wait(
                {ready, gone, self._asked}, timeout=self.launch.load_timeout, return_when=asyncio.FIRST_COMPLETED
            )
            return ready.done() and not gone.done() and not self._asked.done()
        finally:
            ready.cancel()
            await asyncio.wait({ready})

    def measure(self) -> None:
        """Look at its memory. Reads a file of the kernel's."""
        if child := self._child:
            self.memory = child.memory()
            self.peak = max(self.peak, self.memory)
            if not self.base and self.state is RunnerState.READY:
                self.base = self.memory

    async def _look_after(self, gone: asyncio.Task[int]) -> None:
        """Until it is gone, asked to end, or found hung: alive, and yet without an answer to the simplest question."""
        await asyncio.to_thread(self.measure)
        tick = min(TICK, self.launch.hang_timeout / 2)
        while not gone.done() and not self._asked.done():
            await asyncio.to_thread(self.launch.log.trim)
            await asyncio.wait({gone, self._asked}, timeout=tick, return_when=asyncio.FIRST_COMPLETED)
            if not gone.done() and not self._asked.done() and not await self._is_well(gone):
                self._hung = not gone.done() and not self._asked.done()
                return

    async def _is_well(self, gone: asyncio.Task[int]) -> bool:
        """Asked twice, since one answer may be late because we were stopped for a while ourselves."""
        for _ in range(2):
            asking = asyncio.create_task(_healthy(str(self.launch.socket), self.launch.hang_timeout / 2))
            try:
                await asyncio.wait({asking, gone, self._asked}, return_when=asyncio.FIRST_COMPLETED)
                if not asking.done() or asking.result():
                    return True
            finally:
                asking.cancel()
                await asyncio.wait({asking})
        return False

    async def _end(self, child: LocalChild, gone: asyncio.Task[int]) -> None:
        """However we came here, also cancelled: the child is killed if it must be, awaited, and its things removed."""
        try:
            if not gone.done() and self._asked.done() and self._grace:
                child.ask_to_end()
                await asyncio.wait({gone}, timeout=self._grace)
        finally:
            try:
                child.kill()
                await asyncio.wait({gone})
            finally:
                child.close()
                self._child = None
                self.memory = 0
                await self._unlink()

    async def _unlink(self) -> None:
        await asyncio.to_thread(self.launch.socket.unlink, missing_ok=True)

    async def _reason(self, code: int, since: int) -> str:
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        with contextlib.suppress(OSError):
            if said := find_reason(await asyncio.to_thread(self.launch.log.tail, since)):
                return f"ended with {how}: {said}"
        return f"ended with {how}"

    def _exited(self, *, loaded: bool, reason: str) -> Exit:
        asked = self._asked.done()
        self._move(Change.EXITED)
        self.pid = None
        return Exit(asked=asked, loaded=loaded, reason=reason)

    def _move(self, change: Change) -> None:
        self.state = TRANSITIONS[self.state][change]


async def _answers(socket: str) -> None:
    """Returns when the runner says that it is ready."""
    pause = FIRST_PROBE
    while not await _healthy(socket):
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, SLOWEST_PROBE)


async def _healthy(socket: str, patience: float = PROBE_TIMEOUT) -> bool:
    try:
        async with asyncio.timeout(patience):
            reader, writer = await asyncio.open_unix_connection(socket)
            try:
                writer.write(b"GET /health HTTP/1.1\r\nHost: runner\r\nConnection: close\r\n\r\n")
                return (await reader.readline()).startswith(b"HTTP/1.1 200")
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        return False
