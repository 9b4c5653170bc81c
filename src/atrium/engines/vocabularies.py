"""Tokens without a loaded model: one child process reads the vocabularies. Implements `core.ports.Tokenizers`.

The child is started by the first question and ended when nobody has asked for a while. If it dies, a fresh one is asked
once more for all that waits: a text that kills it twice is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import msgspec

from atrium.core.errors import EngineFailed, QueueFull, UpstreamTimeout
from atrium.core.models import ModelCard

PROGRAM = "atrium.engines.workers.vocabulary"
HEAD = struct.Struct(">I")
LARGE = 256 * 1024
"""Characters. Few larger texts are worked on at a time, so that the small ones never wait for a thread."""
MOST_LARGE = 2
IDLE = 600.0
"""Seconds after which a child that nobody asks is ended."""
Asking = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class TokenBounds:
    """Seconds, and questions that may wait."""

    patience: float
    queue: int


class Answer(msgspec.Struct):
    id: int
    data: bytes = b""
    error: str = ""


@dataclass(slots=True)
class Child:
    process: asyncio.subprocess.Process
    waiting: dict[int, asyncio.Future[bytes]] = field(default_factory=dict[int, asyncio.Future[bytes]])
    reading: asyncio.Task[None] | None = None
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    asked: int = 0
    gone: bool = False

    async def ask(self, asking: Asking) -> bytes:
        """Raises EngineFailed."""
        if self.gone or self.process.stdin is None:
            raise ChildDied
        self.asked += 1
        number = self.asked
        found: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.waiting[number] = found
        raw = msgspec.msgpack.encode({**asking, "id": number})
        try:
            async with self.writing:
                self.process.stdin.write(HEAD.pack(len(raw)) + raw)
                await self.process.stdin.drain()
            return await found
        except OSError:
            raise ChildDied from None
        finally:
            self.waiting.pop(number, None)

    async def read(self) -> None:
        """Until its output ends, which is its end."""
        output = self.process.stdout
        try:
            while output is not None:
                size = HEAD.unpack(await output.readexactly(HEAD.size))[0]
                self._tell(msgspec.msgpack.decode(await output.readexactly(size), type=Answer))
        except asyncio.IncompleteReadError:
            pass
        finally:
            self.gone = True
            for found in self.waiting.values():
                if not found.done():
                    found.set_exception(ChildDied())

    def _tell(self, answer: Answer) -> None:
        found = self.waiting.get(answer.id)
        if found is None or found.done():
            return
        if answer.error:
            found.set_exception(EngineFailed(f"The model's vocabulary cannot be used: {answer.error}"))
        else:
            found.set_result(answer.data)

    async def end(self) -> None:
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
        await self.process.wait()
        if self.reading is not None:
            await asyncio.gather(self.reading, return_exceptions=True)


class ChildDied(Exception):
    """Within this file: the child went away before it answered."""


class Vocabularies:
    """Used as a context; leaving it ends the child."""

    def __init__(self, environment: Mapping[str, str], bounds: TokenBounds) -> None:
        self._environment = environment
        self._bounds = bounds
        self._child: Child | None = None
        self._starting = asyncio.Lock()
        self._large = asyncio.Semaphore(MOST_LARGE)
        self._waiting = 0
        self._resting: asyncio.TimerHandle | None = None
        self._ends: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rest()
        await asyncio.gather(*self._ends, return_exceptions=True)

    async def encode(self, card: ModelCard | None, text: str) -> list[int]:
        return numbers(await self._ask("encode", card, len(text), text=text))

    async def count(self, card: ModelCard | None, text: str) -> int:
        return HEAD.unpack(await self._ask("count", card, len(text), text=text))[0]

    async def decode(self, card: ModelCard | None, ids: Sequence[int]) -> str:
        return (await self._ask("decode", card, len(ids), ids=array("i", ids).tobytes())).decode()

    async def ends(self, card: ModelCard | None, text: str) -> Sequence[int]:
        return numbers(await self._ask("ends", card, len(text), text=text))

    async def _ask(self, do: str, card: ModelCard | None, size: int, **given: object) -> bytes:
        if self._waiting >= self._bounds.queue:
            raise QueueFull("Too many texts wait for a tokenizer", hint="Ask again in a moment", retry_after=1.0)
        control = card.facts.vocabulary.control.values() if card else ()
        asking = {"do": do, "path": card.path if card else "", "mark": max(control, default=None), **given}
        self._waiting += 1
        if self._resting:
            self._resting.cancel()
        try:
            async with asyncio.timeout(self._bounds.patience):
                if size <= LARGE:
                    return await self._answer(asking)
                async with self._large:
                    return await self._answer(asking)
        except TimeoutError:
            # A thread of the child cannot be stopped by itself.
            self._rest()
            raise UpstreamTimeout(f"The text took longer than {self._bounds.patience:g} s to tokenise") from None
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._resting = asyncio.get_running_loop().call_later(IDLE, self._rest)

    async def _answer(self, asking: Asking) -> bytes:
        for _ in range(2):
            try:
                return await (await self._started()).ask(asking)
            except ChildDied:
                continue
        raise EngineFailed("The tokenizer broke over this text")

    async def _started(self) -> Child:
        """Raises EngineFailed."""
        async with self._starting:
            if self._child is None or self._child.gone:
                try:
                    process = await asyncio.create_subprocess_exec(
                        *(sys.executable, "-m", PROGRAM, str(os.getpid())),
                        stdin=asyncio.subprocess.PIPE,
                        stdout=asyncio.subprocess.PIPE,
                        stderr=asyncio.subprocess.DEVNULL,
                        env=self._environment,
                        start_new_session=True,
                    )
                except OSError as refused:
                    raise EngineFailed(f"The tokenizer could not be started: {refused.strerror}") from None
                self._child = Child(process)
                self._child.reading = asyncio.create_task(self._child.read())
            return self._child

    def _rest(self) -> None:
        """End the child; the next question starts another."""
        if self._resting:
            self._resting.cancel()
        if self._child is not None:
            ending = asyncio.create_task(self._child.end())
            self._ends.add(ending)
            ending.add_done_callback(self._ends.discard)
            self._child = None


def numbers(raw: bytes) -> list[int]:
    """Of little-endian 32-bit numbers, which this machine's own are."""
    return array("i", raw).tolist()
