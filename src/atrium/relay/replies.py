"""One generation as a stream of events, read from its connection."""

from __future__ import annotations

import secrets
from collections import deque
from typing import Self

from atrium.core.answers import Event
from atrium.dialects.llamacpp.reply import Reading, ReplyReader
from atrium.dialects.llamacpp.stream import ChunkReader
from atrium.relay.send import Answer


class ReplyStream:
    """Closing it closes the connection, and with it the generation."""

    def __init__(self, answer: Answer, reading: Reading) -> None:
        self._answer = answer
        self._chunks = ChunkReader()
        self._reply = ReplyReader(reading, lambda _: f"call_{secrets.token_hex(12)}")
        self._ready: deque[Event] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """Raises EngineFailed when the answer is not whole, EngineSilent, UpstreamTimeout."""
        while not self._ready:
            if self._reply.ended:
                raise StopAsyncIteration
            data = await self._answer.piece()
            if not data:
                raise self._reply.broken()
            for chunk in self._chunks.feed(data):
                self._ready += self._reply.feed(chunk)
                if self._reply.ended:
                    # A stop string ends the answer although the engine would go on: its slot is free at once.
                    self._answer.close()
                    break
        return self._ready.popleft()

    async def aclose(self) -> None:
        self._answer.close()
