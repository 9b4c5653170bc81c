"""Reading an ASGI scope with types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast
from urllib.parse import unquote

from starlette.requests import Request
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from atrium.core.errors import Internal
from atrium.core.people import ANONYMOUS, Caller
from atrium.http.asked import Asked
from atrium.http.edge import Exchange, Headers

EXCHANGE = "atrium.exchange"
CONTROL = "atrium.control"
LANE = "atrium.lane"


def headers_of(scope: Scope) -> Headers:
    return cast("Headers", scope["headers"])


def header(scope: Scope, name: bytes) -> bytes:
    """The first header of that lower-case name, or nothing."""
    for own, value in headers_of(scope):
        if own == name:
            return value
    return b""


def joined(scope: Scope, name: bytes) -> bytes:
    """All values of a header that is a list and may stand more than once."""
    return b", ".join(value for own, value in headers_of(scope) if own == name)


def exchange_of(scope: Scope) -> Exchange:
    exchange = scope.get(EXCHANGE)
    if not isinstance(exchange, Exchange):
        raise Internal("A request came past the edge")
    return exchange


def told(request: Request) -> tuple[Exchange, Caller]:
    """What is noted of a request, and who asks."""
    exchange = exchange_of(request.scope)
    return exchange, exchange.caller or ANONYMOUS


def set_exchange(scope: Scope, exchange: Exchange) -> None:
    scope[EXCHANGE] = exchange


def is_control(scope: Scope) -> bool:
    return scope.get(CONTROL) is True


def mark_control(scope: Scope) -> Scope:
    return {**scope, CONTROL: True}


def peer_of(scope: Scope) -> str:
    """The TCP peer's address; empty on a unix socket."""
    client = cast("tuple[str, int] | None", scope.get("client"))
    return client[0] if client else ""


@dataclass(frozen=True, slots=True)
class FromLane:
    """A request that the lane took, counted against the limits, and handed on."""

    limits: Headers
    olla: bool


def lane_of(scope: Scope) -> FromLane | None:
    found = scope.get(LANE)
    return found if isinstance(found, FromLane) else None


def is_admitted(scope: Scope) -> bool:
    return lane_of(scope) is not None


def mark_lane(scope: Scope, told: FromLane) -> None:
    scope[LANE] = told


def scope_of(asked: Asked, request_id: str) -> Scope:
    """An ASGI scope for a request that the lane took; the gateway's prefix is off."""
    path = asked.rest.decode("latin-1")
    headers = [(name, value) for name, value in asked.headers if name != b"x-request-id"]
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.0" if asked.http10 else "1.1",
        "method": asked.method.decode("ascii"),
        "scheme": asked.scheme,
        "path": unquote(path),
        "raw_path": asked.rest,
        "query_string": asked.query,
        "root_path": "",
        "headers": [*headers, (b"x-request-id", request_id.encode("ascii"))],
        "client": (asked.peer, 0) if asked.peer else None,
        "server": None,
        "state": {},
    }


def scope_on(connection: HttpToolsProtocol) -> Scope:
    """For a request that begins; method and path follow."""
    return {
        "type": "http",
        "asgi": {"version": connection.asgi_version, "spec_version": "2.3"},
        "http_version": "1.1",
        "server": connection.server,
        "client": connection.client,
        "scheme": connection.scheme,
        "root_path": connection.root_path,
        "headers": connection.headers,
        "state": connection.app_state.copy(),
    }
