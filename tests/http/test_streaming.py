"""Writing an event stream in itself, without a server."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any, Self

import pytest

from atrium.core.answers import Ended, Event, Finish, TextPiece
from atrium.http import streaming
from atrium.http.streaming import EventAnswer


class Slow:
    """Says nothing before it is told to go on."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.events: list[Event] = [TextPiece(0, "late"), Ended(0, Finish.STOP)]
        self.closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        await self.go_on.wait()
        if not self.events:
            raise StopAsyncIteration
        return self.events.pop(0)

    async def aclose(self) -> None:
        self.closed = True


async def test_a_silence_is_filled_with_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "SILENCE", 0.01)
    events, sent = Slow(), list[bytes]()

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message.get("body", b""))
        if sent.count(streaming.PING) == 3:
            events.go_on.set()

    async def receive() -> MutableMapping[str, Any]:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    answer = EventAnswer(events, lambda event: repr(event).encode(), lambda _: b"", {})
    async with asyncio.timeout(20):
        await answer({"type": "http"}, receive, send)
    assert sent[1:4] == [streaming.PING] * 3
    assert b"late" in sent[4]
    assert sent[-1] == b""
    assert events.closed
