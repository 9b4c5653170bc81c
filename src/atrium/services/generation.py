"""Carrying out a request's generations: one as it is, several side by side, each with a turn of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from typing import Protocol, Self

from msgspec import structs

from atrium.core.answers import Begun, Event, EventStream, Spent, Timing, Usage
from atrium.core.errors import AtriumError, EngineNonsense, EngineSilent, Internal, UpstreamTimeout
from atrium.core.ports import Prepared

MOST_QUEUED = 64
"""Events of several choices that may wait for a slow reader."""


@dataclass(frozen=True, slots=True)
class Part:
    """One choice to generate."""

    choice: int
    prepared: Prepared
    max_tokens: int
    seed: int | None


class Holding(Protocol):
    """What a generation needs of a lease."""

    @property
    def loaded_in(self) -> float: ...

    @property
    def evicted(self) -> tuple[str, ...]: ...

    def turn(self) -> AbstractAsyncContextManager[float]: ...

    def failed(self, reason: str) -> None: ...

    def doubted(self, reason: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Held:
    """What an answer holds until it is closed: its lease, and the time by which it must have ended."""

    stack: AsyncExitStack
    lease: Holding
    deadline: float
    """On the event loop's clock."""


async def begin(parts: Sequence[Part], held: Held) -> EventStream:
    """Returns once the first response head is here; the stream gives back all that `held` holds.

    Raises QueueFull, NotSent, EngineFailed, UpstreamFailed, UpstreamTimeout; then `held` is the caller's to close.
    """
    if len(parts) == 1:
        return await OneChoice.begin(parts[0], held)
    return await ManyChoices.begin(parts, held)


def too_late() -> UpstreamTimeout:
    return UpstreamTimeout("The answer took longer than one answer may", hint="Ask for fewer tokens")


def report(error: AtriumError, lease: Holding) -> None:
    """What broke an answer in its midst may say something of its runner: a hung one serves nobody any more."""
    if isinstance(error, EngineSilent):
        lease.failed(error.message)
    elif isinstance(error, EngineNonsense):
        lease.doubted(error.message)


def with_waits(timing: Timing, waits: Timing) -> Timing:
    loaded = max(timing.loaded, waits.loaded)
    return replace(timing, queued=waits.queued, loaded=loaded, evicted=waits.evicted)


def check_time(deadline: float) -> None:
    if asyncio.get_running_loop().time() > deadline:
        raise too_late()


class OneChoice:
    """The common case: events pass through, with the waits added to the last of them."""

    def __init__(self, events: EventStream, held: Held, queued: float) -> None:
        self._events = events
        self._held = held
        self._waits = Timing(queued=queued, loaded=held.lease.loaded_in, evicted=held.lease.evicted)

    @classmethod
    async def begin(cls, part: Part, held: Held) -> OneChoice:
        queued = await held.stack.enter_async_context(held.lease.turn())
        events = await part.prepared.open(choice=part.choice, max_tokens=part.max_tokens, seed=part.seed)
        held.stack.push_async_callback(events.aclose)
        return cls(events, held, queued)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        check_time(self._held.deadline)
        try:
            event = await anext(self._events)
        except (EngineSilent, EngineNonsense) as broken:
            report(broken, self._held.lease)
            raise
        if isinstance(event, Begun | Spent):
            return replace(event, timing=with_waits(event.timing, self._waits))
        return event

    async def aclose(self) -> None:
        await self._held.stack.aclose()


class ManyChoices:
    """Choices run side by side as slots allow; their events are merged as they come."""

    def __init__(self, parts: Sequence[Part], held: Held) -> None:
        self._held = held
        self._running = len(parts)
        self._queue: asyncio.Queue[Event | AtriumError] = asyncio.Queue(MOST_QUEUED)
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the first response head is here, or when a choice failed before that."""
        self._prompts = {id(part.prepared): part.prepared.tokens for part in parts}
        """Tokens of each prompt; those of one that only its endpoint can count are known at the end."""
        self._usage = Usage()
        self._timing = Timing(loaded=held.lease.loaded_in, evicted=held.lease.evicted)
        self._tasks = [asyncio.create_task(self._run(part)) for part in parts]

    @classmethod
    async def begin(cls, parts: Sequence[Part], held: Held) -> ManyChoices:
        many = cls(parts, held)
        # Whoever leaves the stack, for whatever reason, ends the choices before the lease is given back.
        held.stack.push_async_callback(many._cancel)
        await many._opened
        return many

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        check_time(self._held.deadline)
        while self._running:
            event = await self._next()
            if isinstance(event, AtriumError):
                report(event, self._held.lease)
                raise event
            if not isinstance(event, Spent):
                return event
            self._running -= 1
            self._add(event)
            if not self._running:
                return Spent(structs.replace(self._usage, prompt_tokens=sum(self._prompts.values())), self._timing)
        raise StopAsyncIteration

    async def aclose(self) -> None:
        await self._held.stack.aclose()

    async def _next(self) -> Event | AtriumError:
        if not self._queue.empty():
            return self._queue.get_nowait()
        try:
            async with asyncio.timeout_at(self._held.deadline):
                return await self._queue.get()
        except TimeoutError:
            raise too_late() from None

    async def _run(self, part: Part) -> None:
        """One choice from its turn to its end; a failure becomes the last thing it says."""
        try:
            async with self._held.lease.turn() as queued:
                self._timing = replace(self._timing, queued=max(self._timing.queued, queued))
                events = await part.prepared.open(choice=part.choice, max_tokens=part.max_tokens, seed=part.seed)
                async with aclosing(events):
                    if not self._opened.done():
                        self._opened.set_result(None)
                    async for event in events:
                        if isinstance(event, Spent):
                            prompt = id(part.prepared)
                            self._prompts[prompt] = max(self._prompts[prompt], event.usage.prompt_tokens)
                        begun = isinstance(event, Begun)
                        await self._queue.put(replace(event, timing=self._timing) if begun else event)
        except AtriumError as error:
            await self._fail(error)
        except Exception as error:  # noqa: BLE001 - a task's root: unreported, its reader would wait for ever
            failure = Internal("A choice could not be generated")
            failure.__cause__ = error
            await self._fail(failure)

    async def _fail(self, error: AtriumError) -> None:
        if self._opened.done():
            await self._queue.put(error)
        else:
            self._opened.set_exception(error)

    def _add(self, spent: Spent) -> None:
        self._usage = structs.replace(
            self._usage,
            # With pictures only the engine knows how long the prompt is; it is the same for all choices.
            prompt_tokens=max(self._usage.prompt_tokens, spent.usage.prompt_tokens),
            completion_tokens=self._usage.completion_tokens + spent.usage.completion_tokens,
            reasoning_tokens=self._usage.reasoning_tokens + spent.usage.reasoning_tokens,
            cached_tokens=max(self._usage.cached_tokens, spent.usage.cached_tokens),
        )
        self._timing = replace(
            self._timing,
            prompt=max(self._timing.prompt, spent.timing.prompt),
            generation=max(self._timing.generation, spent.timing.generation),
            slot=spent.timing.slot,
        )

    async def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
