"""Which methods a path takes: HEAD wherever it takes GET, and a wrong one is told of all that are right."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from atrium.core.errors import MethodNotAllowed
from atrium.http.asked import OPENAI_PATHS, place_of

RELAYED = frozenset({*OPENAI_PATHS, b"/v1/moderations"})
"""Paths that the lane takes by POST, whether or not the router knows them."""
ROUTED = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
NO_SUCH_METHOD = (404, 405)
"""How a router says so: 404 where nothing but the lane takes the path."""


class Methods:
    """Next to the router, whose own refusal names the methods of one of a path's routes alone."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        method, path = str(scope["method"]), str(scope["path"])
        as_get = method == "HEAD" and not self._takes(scope, "HEAD")
        try:
            # Whoever writes the answer to the socket leaves its body out.
            await self.app({**scope, "method": "GET"} if as_get else scope, receive, send)
        except HTTPException as refused:
            if refused.status_code not in NO_SUCH_METHOD:
                raise
            allow = self.allowed(scope)
            if not allow or method in allow:
                raise
            raise MethodNotAllowed(f"{method} is not allowed on {path[:200]}", allow=allow) from None

    def allowed(self, scope: Scope) -> tuple[str, ...]:
        """All that the path takes, on either lane; nothing where there is no such path."""
        found = {method for method in ROUTED if self._takes(scope, method)}
        relayed = place_of(b"POST", str(scope["path"]).encode("utf-8", "surrogatepass"))
        if relayed is not None and relayed[1] in RELAYED:
            found.add("POST")
        if "GET" in found:
            found.add("HEAD")
        # Preflights are answered on every path.
        return tuple(method for method in (*ROUTED, "OPTIONS") if method in found or (found and method == "OPTIONS"))

    def _takes(self, scope: Scope, method: str) -> bool:
        wish = {**scope, "method": method}
        return any(route.matches(wish)[0] is Match.FULL for route in self.app.routes)
