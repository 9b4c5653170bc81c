"""Reading an ASGI scope with types."""

from __future__ import annotations

from typing import cast

from starlette.types import Scope

from atrium.core.errors import Internal
from atrium.http.edge import Exchange, Headers

EXCHANGE = "atrium.exchange"
CONTROL = "atrium.control"


def headers_of(scope: Scope) -> Headers:
    return cast("Headers", scope["headers"])


def header(scope: Scope, name: bytes) -> bytes:
    """The first header of that lower-case name, or nothing."""
    for own, value in headers_of(scope):
        if own == name:
            return value
    return b""


def exchange_of(scope: Scope) -> Exchange:
    exchange = scope.get(EXCHANGE)
    if not isinstance(exchange, Exchange):
        raise Internal("A request came past the edge")
    return exchange


def set_exchange(scope: Scope, exchange: Exchange) -> None:
    scope[EXCHANGE] = exchange


def is_control(scope: Scope) -> bool:
    return scope.get(CONTROL) is True


def mark_control(scope: Scope) -> Scope:
    return {**scope, CONTROL: True}
