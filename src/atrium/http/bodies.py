"""A request's body, read and parsed as its surface's clients expect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from fastapi import Request

from atrium.core.errors import InvalidValue, Unprocessable
from atrium.dialects.bounds import RequestBounds
from atrium.http.reading import BodyBounds, read_body

T = TypeVar("T")


class Bounds(Protocol):
    @property
    def body(self) -> BodyBounds: ...
    @property
    def request(self) -> RequestBounds: ...


async def parsed(request: Request, bounds: Bounds, parse: Callable[[bytes, RequestBounds], T]) -> T:
    """LoLLMs' clients expect 422 for a field that does not fit, OpenAI's 400.

    Raises InvalidJson, InvalidValue, Unprocessable, TooLarge, ClientGone.
    """
    body = await read_body(request.receive, bounds.body)
    try:
        return parse(body, bounds.request)
    except InvalidValue as wrong:
        if request.url.path.startswith("/v1/"):
            raise
        raise Unprocessable(wrong.message, hint=wrong.hint, param=wrong.param) from None
