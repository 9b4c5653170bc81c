"""Writing one relayed answer to a client: chunked with a trailer at its proper end, or a visible break.

Source: contract `olla.md`, section 9.4.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus

BODILESS = frozenset({204, 304})
STATUS_LINES = {status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus}


def status_line(status: int) -> bytes:
    return STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


def whole_answer(status: int, lines: bytes, body: bytes, trailer: bytes) -> bytes:
    """An answer that is here whole, over HTTP/1.1 on a connection that stays. `trailer`: its line, or nothing."""
    if trailer:
        framing = b"trailer: X-Olla-Response-Time\r\ntransfer-encoding: chunked\r\n\r\n"
        piece = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        return b"%b%b%b%b0\r\n%b\r\n" % (status_line(status), lines, framing, piece, trailer)
    return b"%b%bcontent-length: %d\r\n\r\n%b" % (status_line(status), lines, len(body), body)


class AnswerWriter:
    """What comes together is written together: head, body and end of a small answer are one write."""

    def __init__(
        self, transport: asyncio.Transport, *, head_only: bool, http10: bool, keep_alive: bool, lingers: bool
    ) -> None:
        self._transport = transport
        self._head_only = head_only
        self._http10 = http10
        self._keep_alive = keep_alive
        self._lingers = lingers
        """The client is still sending: the connection's owner closes it when that has ended."""
        self._held: list[bytes] = []
        self._chunked = False
        self._bodiless = False
        self._trailer: Callable[[], bytes] | None = None
        self.sent = 0
        """Bytes of the body."""

    def head(self, status: int, lines: bytes, length: int | None, trailer: Callable[[], bytes] | None) -> None:
        """`lines` with their ends; `trailer` makes the trailer's line when the answer has ended properly."""
        self._bodiless = self._head_only or status in BODILESS
        framing = b""
        if self._bodiless or self._http10:
            if length is not None and status not in BODILESS:
                framing = b"content-length: %d\r\n" % length
        elif trailer is not None:
            self._chunked, self._trailer = True, trailer
            framing = b"trailer: X-Olla-Response-Time\r\ntransfer-encoding: chunked\r\n"
        elif length is not None:
            framing = b"content-length: %d\r\n" % length
        else:
            self._chunked = True
            framing = b"transfer-encoding: chunked\r\n"
        if self._http10 and length is None and not self._bodiless:
            self._keep_alive = False
        if not self._keep_alive:
            framing += b"connection: close\r\n"
        elif self._http10:
            framing += b"connection: keep-alive\r\n"
        self._held.append(b"%b%b%b\r\n" % (status_line(status), lines, framing))

    def piece(self, data: bytes) -> None:
        # An empty chunk would be the last one.
        if self._bodiless or not data:
            return
        self.sent += len(data)
        framed = b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data
        if self._held:
            self._held.append(framed)
        else:
            self._transport.write(framed)

    def end(self) -> None:
        """The proper end."""
        if self._chunked:
            self._held.append(b"0\r\n%b\r\n" % (self._trailer() if self._trailer else b""))
        self._trailer = None
        self.flush()
        if not self._keep_alive and not self._lingers:
            self._transport.close()

    def abort(self) -> None:
        """What is here is sent, then the connection closes without the answer's end."""
        self.flush()
        self._transport.close()

    def flush(self) -> None:
        if self._held:
            held, self._held = self._held, []
            if not self._transport.is_closing():
                self._transport.write(held[0] if len(held) == 1 else b"".join(held))
