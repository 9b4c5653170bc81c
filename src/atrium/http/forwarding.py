"""Where a relayed request goes: the choice, the tries, the wait, and the endpoint's answer as it comes.

Source: contract `olla.md`, sections 5 and 6.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from atrium.core.answers import NO_USAGE
from atrium.core.errors import AtriumError, Disconnected, NotSent, Unreachable, UpstreamTimeout
from atrium.decisions.allow import Area
from atrium.decisions.break_circuit import Outcome, outcome_of
from atrium.decisions.choose_endpoint import Choice, Wanted
from atrium.decisions.pass_headers import ResponseHead
from atrium.dialects.openai.usage_chunk import UsageTaker
from atrium.dialects.peek import Call, renamed
from atrium.dialects.usage_tail import usage_of
from atrium.http.asked import READING
from atrium.http.lane import REFRESH_TIMEOUT, Lane
from atrium.http.lines import length_line, onward_head, relayed_lines, source_lines
from atrium.http.metering import counted
from atrium.http.parties import Client
from atrium.http.route import Going, Route, Routing
from atrium.http.sticky import Pin, Telling, stick
from atrium.relay.directory import Endpoint
from atrium.relay.discover import refresh
from atrium.relay.leased import give_back, turn_of
from atrium.relay.sessions import Sessions
from atrium.relay.upstream import Sink, Upstream
from atrium.relay.upstream_error import UpstreamError

TAIL = 16 * 1024
TAIL_PIECES = 4
"""The usage and the closing line may come apart."""
STREAM = b"text/event-stream"
ANSWERED = {200: "it answered 200"}
NOWHERE = Route(Wanted(""))


class Forwarding(Sink):
    """One request's way to an endpoint."""

    def __init__(self, lane: Lane, request: Client, call: Call) -> None:
        self.routing: Routing | None = None
        self.source = b""
        self.sticky = b""
        """Lines that tell of the session, where sessions are kept."""
        self.choice: Choice[Endpoint] | None = None
        self.endpoint: Endpoint | None = None
        self.waited = 0.0
        self.usage = NO_USAGE
        self._route = NOWHERE
        self._upstream: Upstream | None = None
        self._leased_at = self._heard = 0.0
        self._answered = self._paused = False
        self._task: asyncio.Task[None] | None = None
        self._rewritten: UpstreamError | None = None
        self._pin: Pin | None = None
        self._taker: UsageTaker | None = None
        self.asked_bytes = self.pieces = 0
        self.lane = lane
        self.request = request
        self.asked = request.asked
        self.model = call.model
        """As it was asked for."""
        self.ran = self.listed = call.model
        """As it was sent, and as its endpoint spells it."""
        self.tries: list[tuple[str, str, float]] = []
        """Endpoint, how it went, seconds."""
        self._call = call
        self._ranked: list[Endpoint] = []
        self._tail: deque[bytes] = deque(maxlen=TAIL_PIECES)
        """The end of the answer, where usage stands."""

    # Choosing.

    def choose(self, route: Route, *, again: bool) -> None:
        """`again`: whether the lists may be read anew for a model that nobody has."""
        lane, place, wanted = self.lane, self.asked.place, route.wanted
        self._route = route
        if not self.model and place.has_own_default and (lane.has_default() or not place.may_be_local):
            self.request.hand_over()
            return
        self.choice = lane.choose(route)
        if not self.choice.ranked and lane.may_fall_back(wanted) and not self._is_local:
            self.choice = lane.choose_anyone(wanted)
        self._ranked = [*self.choice.ranked]
        if self._ranked and lane.sessions is not None:
            self._stick(lane.sessions)
        if self._ranked:
            self._try_next()
        elif self._may_be_local or lane.translates(self.asked, wanted):
            self.request.hand_over()
        elif again and wanted.models and not lane.known(wanted) and lane.may_refresh(wanted):
            self._do(self._refreshed(wanted))
        elif not self.asked.olla and not lane.known(wanted):
            # Nobody who is remote knows the name: the application says so in its own words.
            self.request.hand_over()
        else:
            error = lane.nobody(wanted, self.model)
            reason = b"model_unavailable" if lane.known(wanted) else b"model_not_found"
            self.routing = self._told_routing(b"rejected", reason)
            raise error

    @property
    def _is_local(self) -> bool:
        return self._may_be_local or (not self.asked.olla and self.lane.has_local(self.model))

    @property
    def _may_be_local(self) -> bool:
        if not self.asked.place.may_be_local:
            return False
        return self.lane.has_local(self.model) if self.model else self.lane.has_default()

    @property
    def _is_translated(self) -> bool:
        """Nobody who speaks the path's dialect accepts a connection, but somebody with another one might."""
        return self.lane.translates(self.asked, self._route.wanted)

    def _stick(self, sessions: Sessions) -> None:
        rules = self.lane.settings.sticky_sessions
        told = Telling(self.asked, self.request.address, self.request.body, self.model)
        self._pin = stick(sessions, rules, told, self._ranked)
        self.sticky = self._pin.lines

    async def _refreshed(self, wanted: Wanted) -> None:
        await self.lane.refresh(wanted)
        self._task = None
        self.choose(Route(wanted), again=False)

    def _told_routing(self, decision: bytes, reason: bytes) -> Routing:
        alias = self.model in self.lane.settings.model_aliases
        return (b"alias" if alias else self.lane.strategy, decision, reason)

    def _try_next(self) -> None:
        """Lease the best candidate that is left, or wait for one that is busy with all it may have."""
        if not self._ranked and ((self.tries and self._may_be_local) or self._is_translated):
            self.request.hand_over()
            return
        if not self._ranked:
            raise Unreachable("No endpoint that could answer accepts a connection")
        for place, one in enumerate(self._ranked):
            if not one.full:
                del self._ranked[place]
                self._lease(one)
                return
        self._do(self._queued(self._ranked.pop(0)))

    async def _queued(self, endpoint: Endpoint) -> None:
        self.waited = await turn_of(endpoint, self.lane.proxy.queue, self.lane.proxy.queue_timeout)
        self._task = None
        self._lease(endpoint)

    def _lease(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._leased_at = time.monotonic()
        endpoint.lease(self._leased_at)
        upstream = endpoint.pool.take(self._leased_at)
        if upstream is not None:
            self._send(endpoint, upstream)
        else:
            self._do(self._connect(endpoint))

    async def _connect(self, endpoint: Endpoint) -> None:
        try:
            upstream = await endpoint.pool.connect()
        except NotSent as refused:
            self.lane.directory.refused(endpoint)
            self._give_back(Outcome.NEITHER, refused.message, Outcome.FAILURE)
            self._task = None
            self._try_next()
            return
        self._task = None
        self._send(endpoint, upstream)

    def _send(self, endpoint: Endpoint, upstream: Upstream) -> None:
        upload = self.request.upload
        if upload is None:
            stream = bool(self._call.stream)
            body, self._taker = counted(self.request.claim, self.asked, self._as_sent(endpoint), stream=stream)
            self.asked_bytes = len(body)
            framing = length_line(self.asked.method, len(body))
        else:
            body, framing = b"", upload.framing
            self._name_what_ran(endpoint)
        self._upstream = upstream
        self._heard = time.monotonic()
        head = onward_head(self.request, endpoint, framing, trusted=self.lane.trusts(self.asked.peer))
        upstream.send(self, head, body, head_only=self.asked.method == b"HEAD")
        if upload is not None:
            self.request.pour(upstream)
        if self._paused:
            upstream.pause()

    def _as_sent(self, endpoint: Endpoint) -> bytes:
        """The body as it came, but for the name of a model that was asked for by an alias."""
        self._name_what_ran(endpoint)
        body = self.request.body
        return body if self.ran == self.model else renamed(body, self._call, self.ran)

    def _name_what_ran(self, endpoint: Endpoint) -> None:
        going = self._route.going.get(endpoint)
        if going is None:
            going = self._route.going[endpoint] = self._going(endpoint)
        self.ran, self.listed, self.routing, self.source = going

    def _going(self, endpoint: Endpoint) -> Going:
        model, routing = self.model, None
        if model:
            routing = self._told_routing(b"routed", b"model_found")
            if not endpoint.has(model.casefold()):
                named = self._route.wanted.models
                model = next((endpoint.name_of(name) for name in named if endpoint.has(name)), "")
                if not model:
                    model, routing = self.model, self._told_routing(b"fallback", b"model_not_found")
        return Going(model, endpoint.name_of(model), routing, source_lines(endpoint, model, routing))

    # The endpoint's side: what its connection calls.

    def on_whole(self, head: ResponseHead, body: bytes) -> None:
        self._upstream = None
        endpoint, request, status = self.endpoint, self.request, head.status
        if endpoint is None:
            return
        if status not in ANSWERED or self._pin or self._taker or self.asked.place.area is Area.ADMIN:
            self.on_head(head)
            # Else another endpoint is asked now.
            if self._answered:
                if body:
                    self.on_piece(body)
                self.on_end()
            return
        self._heard = time.monotonic()
        self._answered = True
        request.release_body()
        request.status, request.sent = status, len(body)
        self.usage = usage_of(body[-TAIL:]) or NO_USAGE
        self.pieces = int(bool(body))
        self._give_back(Outcome.SUCCESS, ANSWERED[status], Outcome.SUCCESS)
        request.answer(status, relayed_lines(request, self, self.lane.settings.cors, head), body)

    def on_head(self, head: ResponseHead) -> None:
        endpoint = self.endpoint
        self._heard = time.monotonic()
        if endpoint is None:
            return
        if head.status in self.lane.proxy.retry_status and self._ranked and self.request.upload is None:
            self.drop(outcome_of(head.status), f"it answered {head.status}")
            self.guarded(self._try_next)
            return
        self._answered = True
        self.request.release_body()
        self.request.status = head.status
        if self._pin is not None and self._pin.key and self.lane.sessions is not None and head.status < 500:
            self.lane.sessions.pin(self._pin.key, endpoint.spec.name)
        if head.status >= 400 and not self.asked.olla:
            self._rewritten = UpstreamError(head)
            return
        length = head.length
        if self._taker is not None and length is not None:
            # What is taken out of a stream makes it shorter than its endpoint said; what is no stream passes as it is.
            is_stream = head.status < 300 and head.value(b"content-type").startswith(STREAM)
            self._taker, length = (self._taker, None) if is_stream else (None, length)
        lines = relayed_lines(self.request, self, self.lane.settings.cors, head)
        self.request.open(head.status, lines, length)

    def on_piece(self, data: bytes) -> None:
        self._heard = time.monotonic()
        if self._rewritten is not None:
            self._rewritten.piece(data)
            return
        self._tail.append(data)
        self.pieces += 1
        if self._taker is not None:
            data = self._taker.feed(data)
            if not data:
                return
        if self.request.writer is not None:
            self.request.writer.piece(data)

    def on_read(self) -> None:
        """What came together goes on together."""
        if self.request.writer is not None:
            self.request.writer.flush()

    def on_end(self) -> None:
        self._upstream = None
        status, endpoint = self.request.status, self.endpoint
        how = ANSWERED.get(status) or f"it answered {status}"
        ended_well = Outcome.SUCCESS if status < 500 else Outcome.FAILURE
        self._give_back(outcome_of(status), how, ended_well)
        if endpoint is not None and status < 300 and self.asked.place.area is Area.ADMIN:
            self._do(self._listed_anew(endpoint))
            return
        if self._rewritten is not None:
            self.request.refuse(self._rewritten.error())
            return
        if self._taker is not None and self.request.writer is not None and (rest := self._taker.rest()):
            self.request.writer.piece(rest)
        self.request.finish()

    async def _listed_anew(self, endpoint: Endpoint) -> None:
        """What an endpoint has was changed: who is told so finds it so."""
        endpoint.checked.stale = True
        await refresh([endpoint], REFRESH_TIMEOUT)
        self._task = None
        self.request.finish()

    def on_broken(self, error: AtriumError) -> None:
        self._upstream = None
        self._give_back(Outcome.FAILURE, error.message, Outcome.FAILURE)
        if self._answered and self._rewritten is None:
            self.request.break_off(error.message)
        elif isinstance(error, Disconnected) and self.asked.method in READING and self._ranked:
            self.guarded(self._try_next)
        else:
            self.request.refuse(error)

    # From outside.

    def look(self, now: float) -> None:
        """Called about once a second: is the endpoint, or a client that does not read, silent for too long?"""
        proxy, upload = self.lane.proxy, self.request.upload
        if self._upstream is None:
            return
        silent = now - (self._heard if upload is None else max(self._heard, upload.moved))
        if not self._answered and silent > proxy.header_timeout:
            self.drop(Outcome.FAILURE, "it gave no response head in time")
            self.request.refuse(UpstreamTimeout(f"The endpoint gave no answer within {proxy.header_timeout:g} s"))
        elif self._answered and silent > proxy.idle_timeout:
            if self._paused:
                self.drop(Outcome.NEITHER, "the client did not read")
                self.request.give_up("The client did not read")
            else:
                self.drop(Outcome.FAILURE, "it was silent for too long")
                self.request.break_off("The endpoint was silent for too long")

    def pause(self) -> None:
        """The client reads too slowly."""
        self._paused = True
        if self._upstream:
            self._upstream.pause()

    def resume(self) -> None:
        self._paused = False
        self._heard = time.monotonic()
        if self._upstream:
            self._upstream.resume()

    def drop(self, outcome: Outcome, how: str = "the client left") -> None:
        """Give up what is under way at an endpoint."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self._upstream is not None:
            self._upstream.abort()
            self._upstream = None
        self._give_back(outcome, how, outcome)

    def _give_back(self, outcome: Outcome, how: str, tallied: Outcome) -> None:
        """The lease, once."""
        endpoint, self.endpoint = self.endpoint, None
        if endpoint is None:
            return
        size = None
        if self._heard >= self._leased_at:
            writer = self.request.writer
            size = writer.sent if writer else self.request.sent
        seconds, _ = give_back(endpoint, self._leased_at, size, outcome, tallied)
        self.tries.append((endpoint.spec.name, how, seconds))

    def read_usage(self) -> None:
        if self._tail:
            self.usage = usage_of(b"".join(self._tail)[-TAIL:]) or self.usage
            self._tail.clear()

    def guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as fault:  # noqa: BLE001 - a request's root: its caller is told something
            self.request.failed(fault)

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        self._task = asyncio.create_task(self._minded(work))

    async def _minded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as fault:  # noqa: BLE001 - a task's root: its caller is told something
            self._task = None
            self.request.failed(fault)
