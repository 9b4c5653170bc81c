"""An endpoint's answer for a task that reads it piece by piece: bounded, and given up after too long a silence."""

from __future__ import annotations

import asyncio
from collections import deque

from atrium.core.errors import AtriumError, UpstreamTimeout
from atrium.decisions.pass_headers import ResponseHead
from atrium.relay.upstream import Sink, Upstream

MOST_BUFFERED = 256 * 1024
"""Bytes that wait for a slow reader before the connection is no longer read."""


class Inbox(Sink):
    """For one request."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._head: ResponseHead | None = None
        self._pieces: deque[bytes] = deque()
        self._buffered = 0
        self._whole = False
        self._broken: AtriumError | None = None
        self._changed = asyncio.Event()

    # What the connection calls.

    def on_head(self, head: ResponseHead) -> None:
        self._head = head
        self._changed.set()

    def on_piece(self, data: bytes) -> None:
        self._pieces.append(data)
        self._buffered += len(data)
        if self._buffered > MOST_BUFFERED:
            self._upstream.pause()
        self._changed.set()

    def on_end(self) -> None:
        self._whole = True
        self._changed.set()

    def on_broken(self, error: AtriumError) -> None:
        self._broken = error
        self._changed.set()

    # What the reader calls.

    @property
    def whole(self) -> bool:
        """It has ended properly, so its connection is no longer this request's."""
        return self._whole

    async def head(self, patience: float) -> ResponseHead:
        """Raises Disconnected, BadResponse; UpstreamTimeout after so many seconds, 0 for no bound."""
        while self._head is None:
            if self._broken is not None:
                raise self._broken
            await self._wait(patience, "The endpoint gave no answer")
        return self._head

    async def piece(self, patience: float) -> bytes:
        """All that is here of the body, empty at its end. Raises as `head` does; the patience is for each piece."""
        while not self._pieces:
            if self._whole:
                return b""
            if self._broken is not None:
                raise self._broken
            await self._wait(patience, "The endpoint was silent")
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        if self._buffered > MOST_BUFFERED and not self._whole:
            self._upstream.resume()
        self._buffered = 0
        return data

    async def _wait(self, patience: float, what: str) -> None:
        self._changed.clear()
        try:
            async with asyncio.timeout(patience or None):
                await self._changed.wait()
        except TimeoutError:
            raise UpstreamTimeout(f"{what} for {patience:g} s") from None
