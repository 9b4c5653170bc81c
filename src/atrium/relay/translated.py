"""An endpoint's answer as a stream of events. Closing it closes the connection, and with it the generation."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, replace
from typing import Self

from atrium.core.answers import Event, Spent, Timing
from atrium.core.errors import AtriumError, Disconnected, UpstreamFailed
from atrium.core.requests import Constraint
from atrium.decisions.break_circuit import Outcome
from atrium.dialects.reading import AnswerReader, ShapeCheck
from atrium.relay.inbox import Inbox
from atrium.relay.leased import Try
from atrium.relay.tally import Translator
from atrium.relay.translate import Place


@dataclass(frozen=True, slots=True)
class Answered:
    """An endpoint whose good response head is here. End it exactly once."""

    place: Place
    tried: Try
    inbox: Inbox
    translator: Translator

    def end(self, outcome: Outcome, how: str) -> None:
        if self.tried.over:
            return
        self.tried.end(outcome, how)
        if outcome is not Outcome.NEITHER:
            seconds = time.monotonic() - self.tried.began
            self.translator.note(seconds, failed=outcome is Outcome.FAILURE)


class RemoteStream:
    """`shape`: what a whole answer is held to before any of it is told; None for one that is streamed."""

    def __init__(self, answered: Answered, reader: AnswerReader, shape: Constraint | None, patience: float) -> None:
        self._answered = answered
        self._reader = reader
        self._check = None if shape is None else ShapeCheck(shape)
        self._patience = patience
        self._ready: deque[Event] = deque()
        self._sent = answered.tried.began
        self._first = 0.0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """Raises Disconnected, UpstreamFailed, UpstreamTimeout: such an answer is not whole."""
        while not self._ready:
            if self._reader.ended:
                raise StopAsyncIteration
            await self._read()
        event = self._ready.popleft()
        if isinstance(event, Spent):
            return replace(event, timing=self._measured(event.timing))
        return event

    async def aclose(self) -> None:
        self._answered.end(Outcome.NEITHER, "the client left")
        self._ready.clear()

    async def _read(self) -> None:
        answered = self._answered
        try:
            data = await answered.inbox.piece(self._patience)
            answered.tried.size += len(data)
            events = self._reader.feed(data) if data else self._reader.close()
            if self._check is not None:
                self._check.see(events)
        except Disconnected as broken:
            answered.end(Outcome.FAILURE, broken.message)
            raise UpstreamFailed("The endpoint broke off in mid answer", hint="Ask again") from None
        except AtriumError as failed:
            answered.end(Outcome.FAILURE, failed.message)
            raise
        if events and not self._first:
            self._first = time.monotonic()
        self._ready += events
        if self._reader.ended:
            answered.end(Outcome.SUCCESS, "it answered 200")

    def _measured(self, told: Timing) -> Timing:
        """What the endpoint does not tell is measured here: to the first piece, and from there to the end."""
        if told.prompt or told.generation:
            return told
        first = self._first or time.monotonic()
        return replace(told, prompt=first - self._sent, generation=time.monotonic() - first)
