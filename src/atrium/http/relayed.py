"""One relayed request on its client's side: who asks, the body, the turn, and the answer's bytes.

    begin -> admitted -> body whole -> its turn -> Forwarding -> open -> pieces -> finish

It stands where uvicorn's protocol has a request's cycle, so that both lanes keep their order on one connection.
Source: contract `olla.md`, sections 1, 2 and 9.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from atrium.core.errors import AtriumError, RequestTimeout, TooLarge, Unavailable
from atrium.core.people import Caller
from atrium.decisions.break_circuit import Outcome
from atrium.decisions.choose_endpoint import Wanted
from atrium.dialects.peek import Call, peek_form, peek_json
from atrium.http.asked import TARGETED, Asked, Reading
from atrium.http.edge import Exchange, take_request_id
from atrium.http.errors import as_atrium_error
from atrium.http.forwarding import Forwarding
from atrium.http.framing import BODILESS, AnswerWriter, whole_answer
from atrium.http.lane import Lane
from atrium.http.lines import local_answer
from atrium.http.metering import UNCLAIMED, claim
from atrium.http.middleware.doors import check_head
from atrium.http.parties import NOBODY_WAITS
from atrium.http.route import Route
from atrium.http.uploading import MOST_WAITING, NEAR, Upload, has_left, passes_through
from atrium.relay.upstream import Upstream

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection(Protocol):
    """The client's connection."""

    transport: asyncio.Transport

    def hold(self) -> None:
        """Read no more of the client until `go_on`."""
        ...

    def go_on(self) -> None: ...

    def answered(self, relayed: Relayed) -> None:
        """The answer is complete: the next request may have its turn."""
        ...

    def hand_over(self, relayed: Relayed, body: bytes) -> None:
        """This request is the built-in engine's: the application answers it."""
        ...


class Relayed:
    # What the protocol looks at.
    disconnected = False
    message_event = NOBODY_WAITS

    def __init__(self, lane: Lane, connection: Connection, asked: Asked, *, keep_alive: bool, expects: bool) -> None:
        self.response_complete = False
        self.more_body = True
        self.limits = b""
        self.caller: Caller | None = None
        self.claim = UNCLAIMED
        self.status = 0
        self.sent = 0
        """Bytes of the body, once it has ended."""
        self.broken = ""
        self.writer: AnswerWriter | None = None
        self.forwarding: Forwarding | None = None
        self.upload: Upload | None = None
        """A body that goes on as it comes."""
        self._turn = False
        self._failure: AtriumError | None = None
        self._size = 0
        self._held = 0
        self._looking: asyncio.Task[None] | None = None
        self.lane = lane
        self.asked = asked
        self.connection = connection
        self.keep_alive = keep_alive
        self.started = self._heard = time.monotonic()
        self.request_id = take_request_id(asked.request_id)
        self.address = asked.peer
        self._expects = expects
        self._pieces: list[bytes] = []

    # What the protocol calls.

    def whole(self, body: bytes) -> None:
        """Head and body are here, and it is its turn."""
        self._turn, self.more_body = True, False
        self.begin()
        if body:
            self.take_body(body)
        self._proceed()

    def begin(self) -> None:
        """The head is here."""
        self.lane.joined(self)
        self.lane.gateway.metrics.begun()
        try:
            self._admit()
            if passes_through(self.asked):
                self.upload = Upload(self.asked, self.connection.hold, self.connection.go_on)
        except AtriumError as error:
            self._failure = error

    def take_body(self, data: bytes) -> None:
        self._heard = time.monotonic()
        self._size += len(data)
        if self._failure is not None:
            return
        limits = self.lane.settings.limits
        if self._size > limits.max_body:
            self.release_body()
            self._fail(self._too_large(self._size))
        elif self.upload is not None and self.upload.begun:
            self.upload.pass_on(data)
        elif self.lane.buffered + len(data) > limits.buffered_bytes:
            self.release_body()
            self._fail(Unavailable("Too many large requests are being taken", hint="Try again", retry_after=1))
        else:
            self._pieces.append(data)
            self._held += len(data)
            self.lane.buffered += len(data)
            if self.upload is not None and self._held > MOST_WAITING:
                self.upload.hold()

    def end_body(self) -> None:
        self.more_body = False
        if self.upload is not None:
            self.upload.end()
        self._proceed()

    def start(self) -> None:
        """Everything that was asked before on this connection has been answered."""
        self._turn = True
        self._heard = time.monotonic()
        if self._expects and self._failure is None and self.more_body:
            self.connection.transport.write(CONTINUE)
        self._proceed()

    def turn_away(self, error: AtriumError) -> None:
        """What came behind the head is not HTTP."""
        if self._turn:
            self._stop(error)

    def gone(self) -> None:
        """The client has left: counted neither for nor against the endpoint."""
        self.disconnected = True
        if not self.response_complete:
            self.broken = self.broken or "The client left before its answer was whole"
            self.status = self.status or 499
            if self.forwarding:
                self.forwarding.drop(Outcome.NEITHER)
            self._close()

    def look(self, now: float) -> None:
        """Called about once a second: who is silent for too long?"""
        patience = self.lane.settings.limits.body_timeout
        if self.upload is not None and self.upload.held:
            if has_left(self.connection.transport):
                self.connection.transport.abort()
                return
            self._heard = now
        if self.more_body and self._turn and not self.response_complete and now - self._heard > patience:
            self._stop(self._failure or RequestTimeout(f"The body stopped coming for {patience:g} s"))
        elif self.forwarding is not None:
            self.forwarding.look(now)

    def pause(self) -> None:
        if self.forwarding:
            self.forwarding.pause()

    def resume(self) -> None:
        if self.forwarding:
            self.forwarding.resume()

    # Coming in.

    def _admit(self) -> None:
        gateway, asked = self.lane.gateway, self.asked
        limiter, length = gateway.limiter, asked.length
        if gateway.networks and self.lane.trusts(asked.peer):
            self.address = limiter.address(asked.peer, asked.joined(b"x-forwarded-for"))
        if limiter.limited:
            self.limits = limiter.take(self.address)
        if not asked.is_checked:
            check_head(asked, gateway.hosts)
        if length.isdigit() and int(length[:20]) > self.lane.settings.limits.max_body:
            raise self._too_large(int(length[:20]))
        self.caller = gateway.admission.at_once(asked.knock)
        if self.caller is None:
            self._looking = asyncio.create_task(self._look_up())

    async def _look_up(self) -> None:
        try:
            self.caller = await self.lane.gateway.admission.let_in(self.asked.knock, self.address)
        except Exception as fault:  # noqa: BLE001 - a task's root: its caller is told something
            self.failed(fault)
            return
        self._proceed()

    def _proceed(self) -> None:
        if not self._turn or self.response_complete or self.forwarding is not None:
            return
        if self._failure is not None:
            if not (self.more_body and self._body_is_near):
                self.refuse(self._failure)
        elif self.caller is not None and (self.upload is not None or not self.more_body):
            try:
                self._forward()
            except Exception as fault:  # noqa: BLE001 - a request's root: its caller is told something
                self.failed(fault)

    def _forward(self) -> None:
        call = Call() if self.upload is not None else self._peek()
        if not self.asked.olla and self.lane.extends(self.asked, call):
            self.hand_over()
            return
        self.forwarding = Forwarding(self.lane, self, call)
        route = self.lane.route(self.asked, call.model)
        if self.asked.rest in TARGETED:
            # What is to be pulled or created is not there yet.
            route = Route(Wanted(route.wanted.prefix, (), route.wanted.target))
        self.claim = claim(self.lane.gateway.admission.meter, self, (call.model, *route.wanted.models))
        self.forwarding.choose(route, again=True)

    def _peek(self) -> Call:
        """Raises InvalidJson, InvalidValue."""
        reading = self.asked.reading
        if not self._pieces or reading is Reading.NOT:
            return Call()
        body = self.body
        if reading is Reading.JSON or reading is Reading.NAMED:
            return peek_json(body, management=reading is Reading.NAMED)
        if reading is Reading.FORM:
            return peek_form(body, self.asked.header(b"content-type"))
        return peek_json(body) if body[:64].lstrip()[:1] == b"{" else Call()

    @property
    def body(self) -> bytes:
        if len(self._pieces) > 1:
            self._pieces = [b"".join(self._pieces)]
        return self._pieces[0] if self._pieces else b""

    def pour(self, upstream: Upstream) -> None:
        """The body, from here on as it comes."""
        if self.upload is not None:
            upstream.feed_from(self.upload)
            self.upload.begin(upstream, self._pieces, whole=not self.more_body)
            self.release_body()
            self.upload.catch_up(upstream)

    def release_body(self) -> None:
        self._pieces = []
        self.lane.buffered -= self._held
        self._held = 0

    def hand_over(self) -> None:
        """To the application, with its body and its place in the line; there it is counted anew."""
        self.lane.handed_over(self)
        body = self.body
        self.release_body()
        self.connection.hand_over(self, body)

    def failed(self, fault: Exception) -> None:
        """Nothing was sent to the client yet."""
        error = as_atrium_error(fault, self.asked.place.path)
        if error is not fault:
            self.lane.report(self, fault)
        self._fail(error)

    def _fail(self, error: AtriumError) -> None:
        self._failure = error
        if self._turn and not (self.more_body and self._body_is_near):
            self._stop(error)

    def _stop(self, error: AtriumError) -> None:
        """Refuse, unless an answer has begun: then it breaks off."""
        if self.forwarding is not None:
            self.forwarding.drop(Outcome.NEITHER, error.message)
        if self.writer is None:
            self.refuse(error)
        elif not self.response_complete:
            self.break_off(error.message)

    @property
    def _body_is_near(self) -> bool:
        """A small body is waited for before a refusal, so that its connection can be used again."""
        if self._expects or self.asked.header(b"transfer-encoding"):
            return False
        length = self.asked.length
        return not length or (len(length) < 6 and int(length) <= NEAR)

    def _too_large(self, size: int) -> TooLarge:
        self.lane.gateway.limiter.violations.size += 1
        return TooLarge(f"The body has {size} bytes; at most {self.lane.settings.limits.max_body} are taken")

    # The answer.

    @property
    def way(self) -> Forwarding | None:
        return self.forwarding

    def record(self) -> Exchange:
        """What the closing event tells of it."""
        asked = self.asked
        place = asked.place
        record = Exchange(self.request_id, place.method, place.path, self.started, caller=self.caller)
        record.status, record.sent, record.broken, record.olla = self.status, self.sent, self.broken, asked.olla
        return record

    def open(self, status: int, lines: bytes, length: int | None) -> None:
        """The head of a relayed answer. One that comes before its request is whole ends the connection."""
        self.keep_alive = self.keep_alive and not self.more_body
        self.writer = self._writer()
        self.writer.head(status, lines, length, self._trailer if self.asked.olla else None)

    def answer(self, status: int, lines: bytes, body: bytes) -> None:
        """A relayed answer that is here whole."""
        asked, transport = self.asked, self.connection.transport
        if self.more_body or not self.keep_alive or asked.http10 or asked.method == b"HEAD" or status in BODILESS:
            self.open(status, lines, len(body))
            if self.writer is not None:
                self.writer.piece(body)
            self.finish()
            return
        if not transport.is_closing():
            transport.write(whole_answer(status, lines, body, self._trailer() if asked.olla else b""))
        self._close()
        self.connection.answered(self)

    def finish(self) -> None:
        """The proper end of a relayed answer."""
        if self.writer is not None:
            self.writer.end()
        self._close()
        self.connection.answered(self)

    def break_off(self, why: str) -> None:
        """The client sees a broken transfer, with all that came before the break."""
        self.broken = why
        if self.writer is not None:
            self.writer.abort()
        self._close()

    def give_up(self, why: str) -> None:
        """The client does not read: nothing that is written would ever arrive."""
        self.broken = why
        self.connection.transport.abort()
        self._close()

    def refuse(self, error: AtriumError) -> None:
        """Answer with an error of ours."""
        if self.response_complete or self.disconnected:
            return
        if self.more_body:
            self.keep_alive = False
        self.status = error.status
        status, lines, body = local_answer(self, error, self.lane.settings.cors)
        self.writer = self._writer()
        self.writer.head(status, lines, len(body), None)
        self.writer.piece(body)
        self.writer.end()
        self._close()
        self.connection.answered(self)

    def _writer(self) -> AnswerWriter:
        return AnswerWriter(
            self.connection.transport,
            head_only=self.asked.method == b"HEAD",
            http10=self.asked.http10,
            keep_alive=self.keep_alive,
            lingers=self.more_body,
        )

    def _trailer(self) -> bytes:
        return b"X-Olla-Response-Time: %dms\r\n" % round((time.monotonic() - self.started) * 1000)

    def _close(self) -> None:
        if self._looking:
            self._looking.cancel()
        if self.writer is not None:
            self.sent = self.writer.sent
        self.response_complete = True
        self.release_body()
        self.lane.left(self)
        self.lane.settled(self)
        # What points at one another is freed at once only when one of them lets go.
        self.forwarding = None
