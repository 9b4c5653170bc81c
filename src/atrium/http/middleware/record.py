"""Outermost: gives every request its id and its record, and ends it with one event."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from atrium.core.events import Tell
from atrium.core.usage import UsageRecord
from atrium.decisions.doors import door_of
from atrium.http.asked import GATEWAY
from atrium.http.edge import Exchange, closing_fields, local_headers, stamp_headers, surface_of, take_request_id
from atrium.http.local_record import LocalRecord, is_kept, local_record_of, losses_of
from atrium.http.metering import Ran, has_counted, record_of
from atrium.http.scope import header, is_control, lane_of, set_exchange
from atrium.services.embed_beside import record_beside
from atrium.telemetry.metrics import Metrics

LOSSY = b"x-atrium-allow-lossy"


@dataclass(frozen=True, slots=True)
class Books:
    """Where ended requests are noted."""

    elsewhere: Callable[[Exchange, float], None]
    """Told of every request that an endpoint was asked for, with the seconds that it took."""
    here: Callable[[str, LocalRecord], None]
    """Told of every other that a model answered or should have, by its id."""
    use: Callable[[UsageRecord], None]
    """Told of what was used."""


class Record:
    def __init__(self, app: ASGIApp, tell: Tell, metrics: Metrics, books: Books) -> None:
        self.app = app
        self._tell = tell
        self._metrics = metrics
        self._books = books

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = take_request_id(header(scope, b"x-request-id"))
        exchange = Exchange(request_id, scope["method"], scope["path"], time.monotonic(), control=is_control(scope))
        if lane := lane_of(scope):
            exchange.limits, exchange.olla = lane.limits, lane.olla
        exchange.trail.request_id = request_id
        exchange.trail.lossy = header(scope, LOSSY).strip().lower() == b"true"
        set_exchange(scope, exchange)
        correlation = header(scope, b"x-correlation-id")

        async def stamped(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                exchange.told = losses_of(message["headers"])
                message["headers"] = [
                    *message["headers"],
                    *local_headers(exchange),
                    *stamp_headers(exchange, time.monotonic(), correlation),
                ]
            else:
                exchange.sent += len(message.get("body", b""))
            await send(message)

        self._metrics.begun()
        try:
            await self.app(scope, receive, stamped)
        finally:
            now = time.monotonic()
            exchange.hold.settle(0, counts=has_counted(exchange.status))
            self._note_use(exchange, now)
            self._metrics.ended(surface_of(exchange.path), exchange.status, now - exchange.started)
            if exchange.model:
                self._metrics.spent(exchange.model, exchange.usage, exchange.timing)
            closing = closing_fields(exchange, now)
            if exchange.trail.candidates:
                self._books.elsewhere(exchange, now - exchange.started)
            elif is_kept(exchange):
                self._books.here(exchange.request_id, local_record_of(exchange, closing, time.time()))
            self._tell("request.ended", closing)

    def _note_use(self, exchange: Exchange, now: float) -> None:
        """Nothing of what no door of inference answered, or nobody known asked."""
        door = GATEWAY if exchange.olla else door_of(exchange.path)
        if exchange.caller is None or exchange.control or door is None:
            return
        guess = exchange.trail.estimated
        ran = Ran(exchange.trail.endpoint, exchange.model, guess or exchange.usage, exact=guess is None)
        ended = (exchange.method, exchange.status)
        took = (time.time(), now - exchange.started)
        self._books.use(record_of(exchange.caller, door, ended, took, ran))
        for used in exchange.trail.beside:
            self._books.use(record_beside(used, exchange.caller, door))
