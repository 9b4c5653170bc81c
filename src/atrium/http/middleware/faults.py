"""Turns what went wrong into an answer in the caller's dialect, once; after the first byte only into a break."""

from __future__ import annotations

import traceback

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from atrium.core.errors import AtriumError, TooLarge
from atrium.core.events import Tell
from atrium.http.edge import Exchange, error_answer, surface_of
from atrium.http.errors import as_atrium_error
from atrium.http.reading import ClientGone, discard
from atrium.http.scope import exchange_of
from atrium.http.streaming import BrokenAnswer


class Faults:
    def __init__(self, app: ASGIApp, tell: Tell) -> None:
        self.app = app
        self._tell = tell

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        exchange = exchange_of(scope)
        try:
            await self.app(scope, receive, watched)
        except ClientGone as left:
            exchange.broken = left.message
            exchange.status = exchange.status or left.status
        except BrokenAnswer as broken:
            exchange.broken = str(broken)
            if broken.__cause__ is not None:
                self._report(exchange.request_id, broken.__cause__)
            raise
        except Exception as fault:  # noqa: BLE001 - a request's root: its caller is told something
            error = as_atrium_error(fault, scope["path"])
            if error is not fault and error.status == 500:
                self._report(exchange.request_id, fault)
            if started:
                exchange.broken = error.message
                raise BrokenAnswer(error.message) from None
            exchange.refused = error
            await answer(error, exchange, receive, send)

    def _report(self, request_id: str, fault: BaseException) -> None:
        trace = "".join(traceback.format_exception(fault))
        self._tell("request.failed", {"id": request_id, "error": type(fault).__name__, "trace": trace})


async def answer(error: AtriumError, exchange: Exchange, receive: Receive, send: Send) -> None:
    surface = "olla" if exchange.olla else surface_of(exchange.path)
    status, headers, body = error_answer(error, surface)
    if isinstance(error, TooLarge):
        await send({"type": "http.response.start", "status": status, "headers": [*headers, (b"connection", b"close")]})
        # The answer is whole for its reader now; the connection closes only when the rest of the body was dropped.
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await discard(receive)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        return
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
