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

from atrium.core.errors import AtriumError, EngineFailed, EngineSilent, NotSent, UpstreamTimeout
from atrium.relay.deadlines import Deadlines

MOST_BUFFERED = 256 * 1024
"""Bytes of a body that wait for a slow reader before the socket is no longer read."""
MOST_HEAD = 64 * 1024
CROWDED = 0.005
"""Seconds until the next try where too many others are connecting at this moment."""
SECOND_LOOK = 0.1
FRAMED = (b"content-length", b"transfer-encoding")


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
        self._framed = False
        """The head says where the body ends; else its end is the connection's."""
        self._whole = False
        self._closed = False
        self._paused = False
        self._broken: str = ""
        self._ended: AtriumError | None = None
        """Why the reader's side gave up."""
        self._changed = asyncio.Event()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._whole or self._broken:
            return
        if not self._head_done:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if not self._whole:
                self._fail(f"it answered what is not HTTP ({error})")
        if not self._head_done and self._head_bytes > MOST_HEAD:
            self._fail("its answer's head has no end")
        self._hold_back()
        self._changed.set()

    def eof_received(self) -> None:
        """The sender has nothing more to say, which is the end of a body without a length and a break of any other."""
        if self._head_done and not (self._framed or self._broken):
            self._whole = True

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        if not self._whole and not self._broken:
            self._broken = str(exc) if exc else "it closed the connection before its answer was whole"
        self._changed.set()

    # What the parser calls.

    def on_header(self, name: bytes, value: bytes) -> None:  # noqa: ARG002 - the parser's signature
        self._framed = self._framed or name.lower() in FRAMED

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            # An interim answer; the one that counts follows.
            self._framed = False
            return
        self.status = status
        self._head_done = True

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)
        self._buffered += len(body)

    def on_message_complete(self) -> None:
        self._whole = self._head_done

    # What the reader calls.

    async def head(self) -> None:
        """Raises EngineFailed when there is none."""
        while not self._head_done:
            if self._broken or self._closed:
                raise EngineFailed(f"The engine is gone: {self._broken}")
            await self._wait()

    @property
    def answered(self) -> bool:
        """Whether the head is here."""
        return self._head_done

    @property
    def at_hand(self) -> bool:
        """Whether `piece` has no need to wait."""
        return bool(self._pieces or self._whole or self._broken or self._closed)

    async def piece(self) -> bytes:
        """The next bytes of the body, all that are here at once; empty at its proper end. Raises EngineFailed."""
        while not self._pieces:
            if self._whole:
                return b""
            if self._ended:
                raise self._ended
            if self._broken or self._closed:
                raise EngineFailed(f"The engine broke off: {self._broken}")
            await self._wait()
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._buffered = 0
        if self._paused and self._transport and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()
        return data

    def send(self, data: bytes) -> None:
        if self._transport:
            self._transport.write(data)

    def close(self) -> None:
        """At once: what is not yet written or read is dropped."""
        if not self._whole:
            self._broken = self._broken or "it was given up"
        if self._transport:
            self._transport.abort()

    def end(self, error: AtriumError) -> None:
        """Give up for this reason, which whoever reads on is told."""
        self._ended = error
        self.close()
        self._changed.set()

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _hold_back(self) -> None:
        too_much = self._buffered > MOST_BUFFERED
        if too_much and not self._paused and self._transport and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def _fail(self, why: str) -> None:
        self._broken = self._broken or why
        self.close()


class Answer:
    """A response whose head is here. Read it by `piece`, or `body` for all of a small one."""

    def __init__(self, exchange: Exchange, deadlines: Deadlines, ends: float) -> None:
        self.status = exchange.status
        self._exchange = exchange
        self._deadlines = deadlines
        self._ends = ends
        """On the event loop's clock."""
        self._waits_since: float | None = None
        self._doubted: float | None = None
        """The beginning of a wait that was found too long once."""
        self._loop = asyncio.get_running_loop()
        self._watch = self._loop.call_at(min(ends, self._loop.time() + deadlines.between), self._check)

    async def piece(self) -> bytes:
        """The next bytes, empty at the proper end.

        Raises EngineFailed when the body breaks off, EngineSilent after too long a silence, UpstreamTimeout when the
        whole takes too long.
        """
        exchange = self._exchange
        if exchange.at_hand:
            return await exchange.piece()
        self._waits_since = self._loop.time()
        try:
            return await exchange.piece()
        finally:
            self._waits_since = None

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
        self._watch.cancel()
        self._exchange.close()

    def _check(self) -> None:
        """One timer for a whole answer: a timer for every piece costs more than the piece."""
        now = self._loop.time()
        since = self._waits_since if self._waits_since is not None else now
        silent_at = since + self._deadlines.between
        if now >= self._ends:
            self._exchange.end(UpstreamTimeout(f"The engine's answer took longer than {self._deadlines.whole:g} s"))
        elif now >= silent_at and self._doubted != since:
            # The clock may be noticed before what has come, after a time in which we were stopped ourselves.
            self._doubted = since
            self._watch = self._loop.call_later(SECOND_LOOK, self._check)
        elif now >= silent_at:
            silence = self._deadlines.between
            self._exchange.end(EngineSilent(f"The engine was silent for {silence:g} s in mid answer"))
        else:
            self._watch = self._loop.call_at(min(silent_at, self._ends), self._check)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


@asynccontextmanager
async def posted(socket: str, path: str, body: bytes, deadlines: Deadlines) -> AsyncGenerator[Answer]:
    """`POST path` to a unix socket; entered when the response head is here, closed with the block.

    Raises NotSent when nothing was sent, EngineFailed or EngineSilent afterwards.
    """
    answer = await post(socket, path, body, deadlines)
    async with answer:
        yield answer


async def post(socket: str, path: str, body: bytes, deadlines: Deadlines) -> Answer:
    """Like `posted`, for who closes the answer himself."""
    exchange = await connected(socket, deadlines)
    ends = asyncio.get_running_loop().time() + deadlines.whole
    head = f"POST {path} HTTP/1.1\r\nHost: runner\r\nConnection: close\r\nContent-Type: application/json\r\n"
    answered = False
    try:
        exchange.send(f"{head}Content-Length: {len(body)}\r\n\r\n".encode("ascii") + body)
        async with asyncio.timeout(deadlines.head):
            await exchange.head()
        answered = True
    except TimeoutError:
        # After a time in which we were stopped ourselves, the clock may be noticed before what has come.
        if not exchange.answered:
            raise EngineSilent(f"The engine gave no answer within {deadlines.head:g} s") from None
        answered = True
    finally:
        if not answered:
            exchange.close()
    return Answer(exchange, deadlines, ends)


async def connected(socket: str, deadlines: Deadlines) -> Exchange:
    """Raises NotSent."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(deadlines.connect):
            while True:
                try:
                    _, exchange = await loop.create_unix_connection(Exchange, socket)
                except BlockingIOError:
                    # A burst of requests filled the line of connections that wait to be accepted.
                    await asyncio.sleep(CROWDED)
                else:
                    return exchange
    except TimeoutError:
        raise NotSent(f"The engine accepts no connection within {deadlines.connect:g} s") from None
    except OSError as error:
        raise NotSent(f"The engine cannot be reached: {error.strerror or error}") from None
