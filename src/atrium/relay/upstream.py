"""A keep-alive connection to an endpoint: sends a request, hands the answer's head and bytes to a sink as they come.

Called back by the event loop without a task of its own, since a task per request costs half as much again
(`docs/performance.md`).
"""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, cast

from atrium.core.errors import AtriumError, BadResponse, Disconnected
from atrium.decisions.pass_headers import BadHead, HeadReader, ResponseHead

BODILESS = frozenset({204, 304})
LONGEST_SIZE_LINE = 1024
MOST_TRAILER = 16 * 1024
LAST_WORDS = 64 * 1024
IDLE, HEAD, LENGTH, CHUNKED, UNTIL_CLOSE = range(5)


class Sink(Protocol):
    """Who asked. Nothing is called after `on_whole`, `on_end` or `on_broken`."""

    def on_head(self, head: ResponseHead) -> None: ...
    def on_piece(self, data: bytes) -> None: ...
    def on_end(self) -> None: ...
    def on_broken(self, error: AtriumError) -> None: ...

    def on_read(self) -> None:
        """The answer's head, and all of the body that came with it, has been handed on."""

    def on_whole(self, head: ResponseHead, body: bytes) -> None:
        """Instead of all others: the answer came in one read, and its connection is free for the next request."""
        self.on_head(head)
        if body:
            self.on_piece(body)
        self.on_end()


class Feeder(Protocol):
    """Who sends a request's body piece by piece."""

    def hold(self) -> None:
        """The endpoint takes no more until `go_on`."""
        ...

    def go_on(self) -> None: ...


class Upstream(asyncio.Protocol):
    def __init__(self, heads: HeadReader, most_head: int, idle: Callable[[Upstream], None]) -> None:
        self._heads = heads
        self._most_head = most_head
        self._idle = idle
        """Told when the connection may be used again."""
        self._transport: asyncio.Transport | None = None
        self._poll = select.poll()
        self._sink: Sink | None = None
        self._feeder: Feeder | None = None
        """While a request's body is still to come."""
        self._state = IDLE
        self._buffer = b""
        self._left = 0
        """Bytes of the body, or of the present chunk with its line end, that are still to come."""
        self._in_chunk = False
        self._last_chunk = False
        self._head_only = False
        self._close = False
        self._paused = False
        self._full = False
        self.idle_since = 0.0

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN | select.POLLHUP)

    def data_received(self, data: bytes) -> None:
        sink = self._sink
        if sink is None:
            self.abort()
            return
        state = self._state
        try:
            if state == HEAD:
                self._feed_head(self._buffer + data if self._buffer else data, sink)
                if self._sink is sink:
                    sink.on_read()
            elif state == CHUNKED:
                if self._buffer:
                    data = self._buffer + data
                if not self._in_chunk and not self._last_chunk and (piece := only_chunk(data)):
                    self._buffer = b""
                    sink.on_piece(piece)
                else:
                    self._feed_chunked(data, sink)
            else:
                self._feed_body(data, sink)
        except BadHead as bad:
            self._break(BadResponse(f"The endpoint's answer cannot be read: {bad}"))

    def eof_received(self) -> None:
        if self._state == UNTIL_CLOSE and self._sink is not None:
            self._close = True
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._sink is not None and exc is not None:
            self._hear_last_words()
        if self._sink is not None:
            if self._state == UNTIL_CLOSE and exc is None:
                self._end()
            elif self._state == HEAD:
                self._break(Disconnected("The endpoint closed the connection before it answered"))
            else:
                self._break(Disconnected("The endpoint broke off in mid answer"))
        self._transport = None

    def pause_writing(self) -> None:
        self._full = True
        if self._feeder is not None:
            self._feeder.hold()

    def resume_writing(self) -> None:
        self._full = False
        if self._feeder is not None:
            self._feeder.go_on()

    def _hear_last_words(self) -> None:
        """An endpoint may answer and close before it has read the request; then writing fails, and its answer waits."""
        transport, self._close = self._transport, True
        if transport is None or transport.get_extra_info("sslcontext") is not None:
            return
        descriptor = transport.get_extra_info("socket").fileno()
        with suppress(OSError):
            while self._sink is not None and (data := os.read(descriptor, LAST_WORDS)):
                self.data_received(data)

    # What the asker calls.

    def fresh(self) -> bool:
        """Whether an idle connection is still open: nothing may have come on it, not even its end."""
        transport = self._transport
        return transport is not None and not transport.is_closing() and not self._poll.poll(0)

    def send(self, sink: Sink, head: bytes, body: bytes, *, head_only: bool) -> None:
        """One request at a time. `head_only`: an answer to HEAD, whose body never comes."""
        if self._transport is None:
            raise RuntimeError("a closed connection was used")
        self._sink = sink
        self._state = HEAD
        self._head_only = head_only
        self._transport.write(head + body if body else head)

    def feed_from(self, feeder: Feeder) -> None:
        """The body of what was sent comes piece by piece."""
        self._feeder = feeder

    @property
    def is_full(self) -> bool:
        return self._full

    def feed(self, data: bytes, *, last: bool = False) -> None:
        """A piece of the body. What comes after the answer's end is for nobody."""
        if self._feeder is None or self._transport is None:
            return
        if data:
            self._transport.write(data)
        if last:
            self._feeder = None

    def pause(self) -> None:
        if self._transport and not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport and self._paused and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    def abort(self) -> None:
        """Give up at once; the sink hears nothing more."""
        self._sink = self._feeder = None
        if self._transport:
            self._transport.abort()

    # Reading.

    def _feed_head(self, data: bytes, sink: Sink) -> None:
        while True:
            end = data.find(b"\r\n\r\n")
            if end < 0 or end > self._most_head:
                if len(data) > self._most_head:
                    raise BadHead(f"its head is larger than {self._most_head} bytes")
                if data[:7] != b"HTTP/1."[: len(data)]:
                    raise BadHead("it is not HTTP/1.1")
                self._buffer = data
                return
            head = self._heads.read(data[:end])
            data = data[end + 4 :]
            if head.status == 101:
                raise BadHead("it switched protocols unasked")
            if head.status >= 200:
                break
        self._buffer = b""
        self._close = head.close
        if head.length == len(data) and not self._head_only and head.status not in BODILESS:
            self._let_go()
            sink.on_whole(head, data)
            return
        self._frame(head)
        sink.on_head(head)
        if self._sink is not None:
            self._feed_body(data, sink)

    def _feed_body(self, data: bytes, sink: Sink) -> None:
        if self._state == LENGTH:
            self._feed_length(data, sink)
        elif not data:
            return
        elif self._state == CHUNKED:
            self._feed_chunked(data, sink)
        else:
            sink.on_piece(data)

    def _frame(self, head: ResponseHead) -> None:
        if self._head_only or head.status in BODILESS:
            self._state, self._left = LENGTH, 0
        elif head.chunked:
            self._state, self._left, self._in_chunk, self._last_chunk = CHUNKED, 0, False, False
        elif head.length is not None:
            self._state, self._left = LENGTH, head.length
        else:
            self._state, self._close = UNTIL_CLOSE, True

    def _feed_length(self, data: bytes, sink: Sink) -> None:
        if len(data) > self._left:
            # More than was announced: the rest belongs to nobody, and neither can what comes behind it be trusted.
            self._close = True
            data = data[: self._left]
        self._left -= len(data)
        if data:
            sink.on_piece(data)
        if not self._left and self._sink is not None:
            self._end()

    def _feed_chunked(self, data: bytes, sink: Sink) -> None:
        pieces: list[bytes] = []
        place, size = 0, len(data)
        done = False
        while place < size:
            if self._in_chunk:
                taken = self._take_chunk(data, place, pieces)
                place += taken
                if not taken:
                    break
                continue
            end = data.find(b"\r\n", place)
            if end < 0:
                break
            line = data[place:end]
            place = end + 2
            if self._last_chunk:
                if not line:
                    done = True
                    break
                continue
            self._left = chunk_size(line) + 2
            self._in_chunk = self._left > 2
            self._last_chunk = self._left == 2
        rest = data[place:]
        if len(rest) > (MOST_TRAILER if self._last_chunk else LONGEST_SIZE_LINE):
            raise BadHead("a line between its chunks has no end")
        self._buffer = b"" if done else rest
        if pieces:
            sink.on_piece(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if done and self._sink is not None:
            self._close = self._close or bool(rest)
            self._end()

    def _take_chunk(self, data: bytes, place: int, pieces: list[bytes]) -> int:
        """Take what is here of a chunk; `_left` counts its line end. Gives the bytes taken, 0 to wait for more."""
        left = self._left
        here = min(len(data) - place, left)
        inside = min(here, left - 2)
        if inside > 0:
            pieces.append(data[place : place + inside])
        if here < left:
            # The line end is taken whole or not at all, so that it can be checked in one piece.
            self._left -= max(inside, 0)
            return max(inside, 0)
        if data[place + left - 2 : place + left] != b"\r\n":
            raise BadHead("a chunk is longer than it says")
        self._in_chunk = False
        return left

    def _end(self) -> None:
        sink = self._sink
        self._let_go()
        if sink:
            sink.on_end()

    def _let_go(self) -> None:
        """The answer is whole: the connection is free, or closed where it cannot be used again."""
        self._sink = None
        self._state = IDLE
        transport = self._transport
        early, self._feeder = self._feeder is not None, None
        if transport is not None and (early or transport.get_write_buffer_size()):
            # An answer that came before its request was sent whole leaves a connection that nobody can use.
            transport.abort()
        elif self._close:
            if transport:
                transport.close()
        else:
            if self._paused:
                self.resume()
            self._idle(self)

    def _break(self, error: AtriumError) -> None:
        sink, self._sink = self._sink, None
        self._feeder = None
        if self._transport:
            self._transport.abort()
        if sink:
            sink.on_broken(error)


def only_chunk(data: bytes) -> bytes:
    """What is in the one whole chunk that a streaming endpoint sends at a time; nothing where it is anything else."""
    end = data.find(b"\r\n", 0, 18)
    if end <= 0 or data[-2:] != b"\r\n" or len(data) != chunk_size(data[:end]) + end + 4:
        return b""
    return data[end + 2 : -2]


def chunk_size(line: bytes) -> int:
    """Raises BadHead."""
    text = line if line.isalnum() else line.partition(b";")[0].strip(b" \t")
    if not text or len(text) > 15 or text.strip(b"0123456789abcdefABCDEF"):
        raise BadHead("a chunk has no size")
    return int(text, 16)
