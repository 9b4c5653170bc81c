"""Shapes that may explode are compiled in children, each of which may take so much time and memory and no more.

A child is started by the first that needs one, does one thing at a time, and is ended when nobody asks for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import struct
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import msgspec

from atrium.core.errors import EngineFailed, InvalidSchema, QueueFull, Unsupported
from atrium.relay.shape_of import Shape, Wanted

PROGRAM = "atrium.relay.workers.compile"
HEAD = struct.Struct(">I")
MOST_CHILDREN = 2
MOST_WAITING = 64
START = 60.0
"""Seconds that a child may take to be ready."""
PATIENCE = 10.0
"""Seconds that one shape may take to compile."""
QUEUED = 30.0
"""Seconds that a shape may wait for a child."""
IDLE = 300.0
"""Seconds after which children that nobody asks are ended."""
TOO_MUCH = "takes more memory to compile than a shape may"
HINT = "Use fewer patterns, branches and bounds that hold for the same value"


class Compiled(msgspec.Struct):
    """A child's answer: a shape, or why there is none."""

    grammar: str = ""
    dropped: tuple[str, ...] = ()
    error: str = ""
    hint: str = ""
    param: str = ""
    unsupported: bool = False


class ChildDied(Exception):
    """Within this file: the child went away before it answered."""


class Child:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @property
    def gone(self) -> bool:
        return self.process.returncode is not None

    async def ask(self, raw: bytes) -> bytes:
        """Raises ChildDied."""
        source, target = self.process.stdin, self.process.stdout
        if source is None or target is None:
            raise ChildDied
        try:
            if raw:
                source.write(HEAD.pack(len(raw)) + raw)
                await source.drain()
            return await target.readexactly(HEAD.unpack(await target.readexactly(HEAD.size))[0])
        except (OSError, asyncio.IncompleteReadError):
            raise ChildDied from None

    async def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()


class Compiler:
    """Use as an async context manager; leaving it ends the children. A child is given `environment`."""

    def __init__(self, environment: Mapping[str, str], *, patience: float = PATIENCE) -> None:
        self._environment = dict(environment)
        self._patience = patience
        self._turns = asyncio.Semaphore(MOST_CHILDREN)
        self._waiting = 0
        self._rested: list[Child] = []
        self._resting: asyncio.TimerHandle | None = None
        self._ends: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rest()
        await asyncio.gather(*self._ends, return_exceptions=True)

    async def __call__(self, wanted: Wanted) -> Shape:
        """Raises InvalidSchema, Unsupported, QueueFull, EngineFailed."""
        await self._queue()
        try:
            child = await self._child()
            try:
                async with asyncio.timeout(self._patience):
                    # Our own words, on their way to our own program.
                    raw = await child.ask(pickle.dumps(wanted))
            except BaseException as broken:
                self._end(child)
                self._refuse(wanted, broken)
                raise
            self._rested.append(child)
        finally:
            self._turns.release()
            # One timer, from the last shape on: a child at work is not among those that rest.
            if self._resting:
                self._resting.cancel()
            self._resting = asyncio.get_running_loop().call_later(IDLE, self._rest)
        return shape_in(msgspec.msgpack.decode(raw, type=Compiled))

    async def _queue(self) -> None:
        if self._waiting >= MOST_WAITING:
            raise too_many()
        self._waiting += 1
        try:
            async with asyncio.timeout(QUEUED):
                await self._turns.acquire()
        except TimeoutError:
            raise too_many() from None
        finally:
            self._waiting -= 1

    def _refuse(self, wanted: Wanted, broken: BaseException) -> None:
        """Raises InvalidSchema for what the shape is to blame for."""
        if isinstance(broken, TimeoutError | ChildDied):
            why = TOO_MUCH if isinstance(broken, ChildDied) else f"takes more than {self._patience:g} s to compile"
            raise InvalidSchema(f"The shape of the answer {why}", hint=HINT, param=wanted.place) from None

    async def _child(self) -> Child:
        """One that is ready. Raises EngineFailed."""
        while self._rested:
            child = self._rested.pop()
            if not child.gone:
                return child
        try:
            child = Child(
                await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", PROGRAM),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.DEVNULL,
                    env=self._environment,
                    start_new_session=True,
                )
            )
        except OSError as refused:
            raise EngineFailed(f"The grammar compiler could not be started: {refused.strerror}") from None
        try:
            async with asyncio.timeout(START):
                await child.ask(b"")
        except (TimeoutError, ChildDied):
            self._end(child)
            raise EngineFailed("The grammar compiler could not be started") from None
        except BaseException:
            self._end(child)
            raise
        return child

    def _end(self, child: Child) -> None:
        ending = asyncio.create_task(child.end())
        self._ends.add(ending)
        ending.add_done_callback(self._ends.discard)

    def _rest(self) -> None:
        if self._resting:
            self._resting.cancel()
        while self._rested:
            self._end(self._rested.pop())


def too_many() -> QueueFull:
    return QueueFull("Too many schemas wait to be compiled", hint="Ask again in a moment", retry_after=1.0)


def shape_in(told: Compiled) -> Shape:
    """Raises InvalidSchema, Unsupported."""
    if not told.error:
        return Shape(told.grammar, told.dropped)
    kind = Unsupported if told.unsupported else InvalidSchema
    raise kind(told.error, hint=told.hint, param=told.param)
