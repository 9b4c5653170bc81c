"""Answers browsers of other origins; a preflight needs no key and goes no further."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from atrium.http.edge import cors_headers, preflight_headers
from atrium.http.scope import header
from atrium.settings.tree import Cors


class CrossOrigin:
    def __init__(self, app: ASGIApp, cors: Cors) -> None:
        self.app = app
        self._cors = cors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        origin = header(scope, b"origin")
        if scope["method"] == "OPTIONS":
            headers = preflight_headers(self._cors, origin, scope["path"])
            await send({"type": "http.response.start", "status": 204, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return

        async def opened(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *cors_headers(self._cors, origin, scope["path"])]
            await send(message)

        await self.app(scope, receive, opened)
