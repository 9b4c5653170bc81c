"""Writes down what people with rights change, before they are told that it is done."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from atrium.core.people import ANONYMOUS, Act
from atrium.core.ports import AuditLog
from atrium.decisions.allow import SAFE, Area, area_of
from atrium.http.acts import act_by
from atrium.http.edge import Exchange
from atrium.http.scope import exchange_of

AUDITED = frozenset({Area.ADMIN, Area.OWN})


class Audit:
    def __init__(self, app: ASGIApp, audit: AuditLog) -> None:
        self.app = app
        self._audit = audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in SAFE or area_of(scope["method"], scope["path"]) not in AUDITED:
            await self.app(scope, receive, send)
            return
        exchange = exchange_of(scope)

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] < 400:
                await self._audit.add(act_of(exchange))
            await send(message)

        await self.app(scope, receive, watched)


def act_of(exchange: Exchange) -> Act:
    return act_by(exchange.caller or ANONYMOUS, f"{exchange.method} {exchange.path}", exchange.address, exchange.deed)
