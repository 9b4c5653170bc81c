"""One HTTP/1.1 exchange on a connection of its own, with nothing between the socket and who reads.

A general client costs more than the answer on the token path. The connection is closed with the exchange, which is also
how a generation is cancelled.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Self, cast

import httptools

from atrium.core.errors import EngineFailed, NotSent, UpstreamFailed, UpstreamTimeout
from atrium.relay.deadlines import Deadlines

MOST_BUFFERED = 256 * 1024
"""Bytes of a body that wait for a slow reader before the socket is no longer read."""
MOST_HEAD = 64 * 1024


class Exchange(asyncio.Protocol):
    """The socket's side: parses the answer and keeps what has not been read yet."""

    def __init__(self) -> None:
        self.status = 0
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._pieces: deque[bytes] = deque()
        self._buffered = 0
        self._head_bytes = 0
        self._head_done = False
        self._whole = False
        self._closed = False
        self._broken: str = ""
        self._changed = asyncio.Event()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if not self._head_done:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(f"it answered what is not HTTP ({error})")
        if not self._head_done and self._head_bytes > MOST_HEAD:
            self._fail("its answer's head has no end")
        if self._buffered > MOST_BUFFERED and self._transport:
            self._transport.pause_reading()
        self._changed.set()

    def eof_received(self) -> None:
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        if not self._whole and not self._broken:
            self._broken = str(exc) if exc else "it closed the connection before its answer was whole"
        self._changed.set()

    # What the parser calls.

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self._head_done = True

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)
        self._buffered += len(body)

    def on_message_complete(self) -> None:
        self._whole = True

    # What the reader calls.

    async def head(self) -> None:
        """Raises EngineFailed when there is none."""
        while not self._head_done:
            if self._broken or self._closed:
                raise EngineFailed(f"The engine is gone: {self._broken}")
            await self._wait()

    async def piece(self) -> bytes:
        """The next bytes of the body, all that are here at once; empty at its proper end. Raises EngineFailed."""
        while not self._pieces:
            if self._whole:
                return b""
            if self._broken or self._closed:
                raise EngineFailed(f"The engine broke off: {self._broken}")
            await self._wait()
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        if self._buffered > MOST_BUFFERED and self._transport and not self._closed:
            self._transport.resume_reading()
        self._buffered = 0
        return data

    def send(self, data: bytes) -> None:
        if self._transport:
            self._transport.write(data)

    def close(self) -> None:
        if self._transport:
            self._transport.abort()

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _fail(self, why: str) -> None:
        self._broken = self._broken or why
        self.close()


class Answer:
    """A response whose head is here. Read `pieces`, or `body` for all of a small one."""

    def __init__(self, exchange: Exchange, deadlines: Deadlines) -> None:
        self.status = exchange.status
        self._exchange = exchange
        self._between = deadlines.between

    async def piece(self) -> bytes:
        """Raises EngineFailed when the body breaks off, UpstreamTimeout after too long a silence."""
        try:
            async with asyncio.timeout(self._between):
                return await self._exchange.piece()
        except TimeoutError:
            raise UpstreamTimeout(f"The engine was silent for {self._between:g} s in mid answer") from None

    async def body(self, most: int) -> bytes:
        """The whole body, refused when it is larger than `most` bytes."""
        pieces: list[bytes] = []
        size = 0
        while piece := await self.piece():
            size += len(piece)
            if size > most:
                raise EngineFailed(f"The engine's answer is larger than {most} bytes")
            pieces.append(piece)
        return b"".join(pieces)

    def close(self) -> None:
        """End the exchange, whatever is left of it. May be called twice."""
        self._exchange.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


@asynccontextmanager
async def posted(socket: str, path: str, body: bytes, deadlines: Deadlines) -> AsyncGenerator[Answer]:
    """`POST path` to a unix socket; entered when the response head is here, closed with the block.

    Raises NotSent when nothing was sent, EngineFailed or UpstreamTimeout afterwards.
    """
    answer = await post(socket, path, body, deadlines)
    async with answer:
        yield answer


async def post(socket: str, path: str, body: bytes, deadlines: Deadlines) -> Answer:
    """Like `posted`, for who closes the answer himself."""
    exchange = await connected(socket, deadlines)
    try:
        head = f"POST {path} HTTP/1.1\r\nHost: runner\r\nConnection: close\r\nContent-Type: application/json\r\n"
        exchange.send(f"{head}Content-Length: {len(body)}\r\n\r\n".encode("ascii") + body)
        async with asyncio.timeout(deadlines.head):
            await exchange.head()
    except TimeoutError:
        exchange.close()
        raise UpstreamTimeout(f"The engine gave no answer within {deadlines.head:g} s") from None
    except (asyncio.CancelledError, UpstreamFailed):
        exchange.close()
        raise
    return Answer(exchange, deadlines)


async def connected(socket: str, deadlines: Deadlines) -> Exchange:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(deadlines.connect):
            _, exchange = await loop.create_unix_connection(Exchange, socket)
    except (OSError, TimeoutError) as error:
        raise NotSent(f"The engine cannot be reached: {error or 'it does not accept connections'}") from None
    return exchange
