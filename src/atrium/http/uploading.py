"""A request's body that is passed on while it comes, since nobody need look into it: blobs, files, sound.

Source: contract `olla.md`, sections 5, 9.1 and 9.5. A body that may name a model is gathered instead, within bounds.
"""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import Callable, Iterable

from atrium.http.asked import READING, Asked, Reading
from atrium.relay.upstream import Upstream

MOST_WAITING = 256 * 1024
"""Bytes that are held until an endpoint is found; then the client must wait."""
NEAR = 64 * 1024


def passes_through(asked: Asked) -> bool:
    """Whether the body is long and names no model, so that it need not be here whole before it goes on."""
    if len(asked.length) < 6 and b"transfer-encoding" not in asked.first:
        return False
    if asked.method in READING or not asked.olla or asked.place.may_be_local:
        return False
    return asked.reading is Reading.NOT


def has_left(transport: asyncio.Transport) -> bool:
    """Whether a client that is not being read from has closed: its last bytes would tell only when they are read."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLRDHUP)
    return bool(poll.poll(0))


class Upload:
    """Between a client that sends and an endpoint that takes, at the pace of the slower one."""

    def __init__(self, asked: Asked, hold: Callable[[], None], go_on: Callable[[], None]) -> None:
        length = asked.length
        self._chunked = not length
        self.framing = b"content-length: %b\r\n" % length if length else b"transfer-encoding: chunked\r\n"
        """The line of the head that an endpoint gets."""
        self.held = False
        """The client waits."""
        self.moved = 0.0
        """When the last piece went on, on the monotonic clock."""
        self._hold = hold
        self._go_on = go_on
        self._upstream: Upstream | None = None

    @property
    def begun(self) -> bool:
        """Nothing of it can be sent to another endpoint any more."""
        return self._upstream is not None

    def begin(self, upstream: Upstream, pieces: Iterable[bytes], *, whole: bool) -> None:
        """Pass on what has come so far, and then all the rest."""
        self._upstream = upstream
        for piece in pieces:
            self.pass_on(piece)
        if whole:
            self.end()

    def pass_on(self, piece: bytes) -> None:
        if self._upstream is not None:
            self.moved = time.monotonic()
            self._upstream.feed(b"%x\r\n%b\r\n" % (len(piece), piece) if self._chunked else piece)

    def end(self) -> None:
        if self._upstream is not None:
            self._upstream.feed(b"0\r\n\r\n" if self._chunked else b"", last=True)

    def catch_up(self, upstream: Upstream) -> None:
        """The client waited for an endpoint to be found."""
        if self.held and not upstream.is_full:
            self.go_on()

    # What the endpoint's connection calls.

    def hold(self) -> None:
        self.held = True
        self._hold()

    def go_on(self) -> None:
        self.held = False
        self.moved = time.monotonic()
        self._go_on()
