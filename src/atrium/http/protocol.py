"""uvicorn's HTTP/1.1 protocol with our bounds on a request's head, and the fork between its two lanes.

Relayed requests stay below ASGI (`relayed.py`); everything else is the application's. Both take their turns in the
order in which they came on a connection.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import httptools
from uvicorn._types import ASGI3Application, HTTPScope
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from atrium.core.errors import AtriumError, BadRequest, HeadersTooLarge, NotOffered, RequestTimeout, Unavailable
from atrium.decisions.relayed_path import ROOT
from atrium.http.asked import Asked, doubt, has_body, known_place
from atrium.http.by_heart import KnownHead, known_head
from atrium.http.edge import read_lines
from atrium.http.idle import IdleWatch, MayIdle
from atrium.http.lane import Lane
from atrium.http.lines import refusal
from atrium.http.reading import DISCARD_PATIENCE, MOST_DISCARDED
from atrium.http.relayed import Relayed
from atrium.http.scope import FromLane, mark_lane, scope_of, scope_on
from atrium.http.spelling import canonical_spelling, origin_form, without_offers
from atrium.http.turns import MOST_PIPELINED, Cycle, Turns, as_cycle, as_relayed


class Door(Turns):
    """One client connection. A head too long or too slow, and one connection too many, are answered and closed."""

    lane: Lane | None = None
    idle = IdleWatch(Turns.limits.idle_timeout)

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._head_bytes = 0
        self._arrived = 0  # Bytes of the read that is being taken apart.
        self._in_head = True
        self._begun = False
        """With a head that is not whole."""
        self._why: AtriumError | None = None
        """Why what came is refused, where it is not merely no HTTP."""
        self._too_slow: asyncio.TimerHandle | None = None
        self._lingering: asyncio.TimerHandle | None = None
        self._dropped = 0
        self._fed = False
        """The read that is being taken apart had something of a body in it."""
        self._known: KnownHead | None = None
        self._read = b""  # That is being taken apart, until its first head is.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.lane is not None:
            self.limits = self.lane.settings.limits
        if len(self.connections) > self.limits.connections:
            self._refuse(Unavailable("Too many connections are open", hint="Try again in a moment", retry_after=1))
            return
        self._watch_head()
        self.idle.watch(cast("set[MayIdle]", self.connections), self.loop)

    def data_received(self, data: bytes) -> None:
        in_head = self._in_head
        if in_head and b"pgrade:" in data and not (self._begun and data[:1] in (b"\r", b"\n")):
            # What begins with a line's end may have the head's end before it, and all else be the body.
            data = without_offers(data)
        self._arrived = len(data)
        idle_since, self.idle_since = self.idle_since, 0.0
        if in_head and not self._begun:
            if self._known is not None and self._is_known(self._known, data):
                return
            self._read = data
        if not self._parse(data):
            return
        if not self._in_head:
            # Trailers, and what else stands between the bytes of a body.
            self._measure(0 if in_head or self._fed else self._head_bytes + len(data))
            self._fed = False
        elif in_head and self._begun:
            # The head has come in part: from now on it must hurry.
            if self._too_slow is None:
                self._watch_head()
            self._measure(self._head_bytes + len(data))
        elif not (self.idle_since or self._is_answering):
            # Empty lines between two requests.
            self.idle_since = idle_since

    def _measure(self, size: int) -> None:
        """`size`: of what is held of a head or of trailers."""
        self._head_bytes = size
        if size > self.limits.max_header:
            self._refuse(self._head_too_large())

    def _parse(self, data: bytes) -> bool:
        """Whether it was HTTP."""
        if self.parser is None:
            return False
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
            return False
        except httptools.HttpParserUpgrade as offered:
            # It is refused, and what comes behind it is a request again.
            if rest := data[offered.args[0] :]:
                self.data_received(rest)
            return False
        return True

    def _is_known(self, known: KnownHead, data: bytes) -> bool:
        """Whether it is one more request with that head, which then needs no parser; it stands between two messages."""
        body = known.body_of(data)
        lane, place = self.lane, known.asked.place
        if body is None or lane is None or not (place.olla or lane.takes(place.prefix)):
            return False
        self._unwatch_head()
        if not self._is_free:
            return False
        relayed = Relayed(lane, self, known.asked, keep_alive=True, expects=False)
        self.cycle = self._now = as_cycle(relayed)
        relayed.whole(body)
        return True

    def on_message_begin(self) -> None:
        self._begun = True
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_headers_complete(self) -> None:
        if self._head_bytes + self._arrived > self.limits.max_header:
            self._measure_head()
        self._check_framing()
        self._begun = False
        self._in_head = False
        self._head_bytes = 0
        self._unwatch_head()
        parser = self.parser
        if parser is None:
            return
        if self.transport.is_closing():
            # Behind what ended the connection nothing is asked any more. This ends the parsing.
            raise Unavailable("The connection has ended")
        method = parser.get_method()
        if self.url[:1] != b"/":
            self.url = origin_form(self.url)
        path, _, query = self.url.partition(b"?")
        lane = self.lane
        place = known_place(method, path) if lane else None
        if place is None and path.startswith(ROOT):
            self.url = canonical_spelling(self.url)
        if lane is None or place is None or not (place.olla or lane.takes(place.prefix)):
            self._read = b""
            self._to_application()
            return
        peer = self.client[0] if self.client else ""
        origin = (peer, self.scheme or "http", parser.get_http_version() == "1.0")
        asked = Asked(place, (method, path, query), self.headers, origin)
        keep = parser.should_keep_alive()
        read, self._read = self._read, b""
        self._known = known_head(read, asked) if read and keep else None
        relayed = Relayed(lane, self, asked, keep_alive=keep, expects=self.expect_100_continue)
        is_free, self.cycle = self._is_free, as_cycle(relayed)
        relayed.begin()
        if is_free:
            self._now = self.cycle
            relayed.start()
        else:
            self.pipeline.appendleft((as_cycle(relayed), self._application))
            if len(self.pipeline) >= MOST_PIPELINED:
                self.flow.pause_reading()
            self._wait_for_reader()

    def _check_framing(self) -> None:
        """Raises BadRequest, NotOffered, which ends the parsing."""
        parser = self.parser
        if parser is None:
            return
        if why := doubt(self.headers, http10=parser.get_http_version() == "1.0"):
            self._why = BadRequest(why)
            raise self._why
        if parser.should_upgrade() and has_body(self.headers):
            # The parser would take the body for what the other protocol says, and we for the next request.
            self._why = NotOffered("Another protocol is not offered here", hint="Send a plain HTTP request")
            raise self._why

    def _to_application(self) -> None:
        """uvicorn makes the scope when a message begins; here only what it answers itself needs one."""
        self.scope = cast("HTTPScope", scope_on(self))
        super().on_headers_complete()
        self._read_on()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Trailers of a body are for nobody: merged into the head they would be headers that nobody has checked."""
        if self._in_head:
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        self._fed = True
        relayed = as_relayed(self.cycle)
        if relayed is None:
            super().on_body(body)
        elif not relayed.response_complete:
            relayed.take_body(body)
        else:
            self._dropped += len(body)
            if self._dropped > MOST_DISCARDED:
                self.transport.close()

    def on_message_complete(self) -> None:
        self._in_head = True
        self._head_bytes = 0
        relayed = as_relayed(self.cycle)
        if relayed is None:
            super().on_message_complete()
        elif relayed.response_complete:
            self.transport.close()
        else:
            relayed.end_body()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch_head()
        self.unwatch_reader()
        if self._lingering:
            self._lingering.cancel()
        waiting = [cycle for cycle, _ in self.pipeline]
        self.pipeline.clear()
        for cycle in (self._now, *waiting):
            relayed = as_relayed(cycle)
            if relayed is not None:
                relayed.gone()
            elif cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        super().connection_lost(exc)

    # What a relayed request calls.

    def answered(self, relayed: Relayed) -> None:
        """The next request may have its turn; a client that is still sending is listened to for a while."""
        if not relayed.keep_alive and not relayed.more_body:
            self.transport.close()
        if relayed.more_body:
            self._lingering = self.loop.call_later(DISCARD_PATIENCE, self.transport.close)
        self.on_response_complete()

    def hold(self) -> None:
        self.flow.pause_reading()

    def go_on(self) -> None:
        self.flow.resume_reading()

    def hand_over(self, relayed: Relayed, body: bytes) -> None:
        """To the application, as if it had come there at once."""
        asked = relayed.asked
        scope = scope_of(asked, relayed.request_id)
        mark_lane(scope, FromLane(read_lines(relayed.limits), asked.olla))
        cycle = RequestResponseCycle(
            scope=cast("HTTPScope", scope),
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=relayed.keep_alive and not asked.http10,
            on_response=self.on_response_complete,
        )
        cycle.body, cycle.more_body = bytearray(body), False
        cycle.message_event.set()
        if as_relayed(self.cycle) is relayed:
            self.cycle = cycle
        self._start(cycle)

    # Turns.

    def _start(self, cycle: Cycle) -> None:
        self._start_asgi_task(as_cycle(cycle), self._application)

    @property
    def _application(self) -> ASGI3Application:
        return cast("ASGI3Application", self.app)  # pyright: ignore[reportUnknownMemberType] - uvicorn's own union

    def send_400_response(self, msg: str) -> None:
        self._refuse(self._why or BadRequest(msg.removesuffix("."), hint="Send HTTP/1.1"))

    def _measure_head(self) -> None:
        """A head that came in one read with other things. Raises HeadersTooLarge, which ends the parsing."""
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self.limits.max_header:
            self._why = self._head_too_large()
            raise self._why

    def _head_too_large(self) -> HeadersTooLarge:
        if self.lane is not None:
            self.lane.gateway.limiter.violations.size += 1
        return HeadersTooLarge(f"The request's head is larger than {self.limits.max_header} bytes")

    def _watch_head(self) -> None:
        self._too_slow = self.loop.call_later(self.limits.header_timeout, self._head_too_slow)

    def _unwatch_head(self) -> None:
        if self._too_slow is not None:
            self._too_slow.cancel()
            self._too_slow = None

    def _head_too_slow(self) -> None:
        self._too_slow = None
        self._refuse(RequestTimeout(f"The request's head took longer than {self.limits.header_timeout:g} s"))

    def _refuse(self, error: AtriumError) -> None:
        """Answer below ASGI and close; a connection that is in mid answer is only closed."""
        if self.transport.is_closing():
            return
        relayed = as_relayed(self.cycle)
        if not self.cycle or self.cycle.response_complete:
            self._write_refusal(error)
        elif self.pipeline:
            pass
        elif relayed is not None:
            if relayed.writer is None:
                relayed.turn_away(error)
        elif not self.cycle.response_started:
            self._write_refusal(error)
            self.cycle.disconnected = True
        self.transport.close()

    def _write_refusal(self, error: AtriumError) -> None:
        known = self._begun or bool(self.cycle)
        url, headers = (self.url, self.headers) if known else (b"", [])
        self.transport.write(refusal(error, url, headers, self.lane.settings.cors if self.lane else None))
