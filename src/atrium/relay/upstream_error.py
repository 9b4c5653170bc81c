"""An endpoint's error under `/v1`, told in the caller's envelope. Source: contract `openai.md`, section 2."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any, cast

import orjson

from atrium.core.errors import AtriumError, UpstreamFailed
from atrium.decisions.pass_headers import ResponseHead

MOST_BODY = 64 * 1024
LONGEST_MESSAGE = 2000
PACKED = frozenset({b"gzip", b"x-gzip", b"deflate"})
GZIP_OR_ZLIB = 32 + 15
"""The library finds out which of the two it is."""
OURS = frozenset({401, 403})
"""The endpoint did not like its own key, which is no fault of the caller's."""


class RelayedError(AtriumError):
    """A 4xx of an endpoint, with its own words."""

    kind = "invalid_request"
    code = "upstream_refused"
    status = 400

    def __init__(self, message: str, status: int, told: Mapping[str, Any], retry_after: float | None) -> None:
        param = told.get("param")
        super().__init__(message, param=param if isinstance(param, str) else None, retry_after=retry_after)
        code = told.get("code")
        self.status = status  # type: ignore[misc] - the endpoint's, not the class's
        self.code = str(code) if code is not None else None  # type: ignore[misc] - as above


class UpstreamError:
    """Collects the body of an error, within a bound."""

    def __init__(self, head: ResponseHead) -> None:
        self._head = head
        self._body = b""

    def piece(self, data: bytes) -> None:
        if len(self._body) < MOST_BODY:
            self._body += data

    def error(self) -> AtriumError:
        status = self._head.status
        message, told = words_of(unpacked(self._body, self._head.value(b"content-encoding")))
        if status in OURS:
            return UpstreamFailed("The endpoint refused its own credentials", hint="Look at its api_key")
        if status >= 500:
            return UpstreamFailed(f"The endpoint failed with {status}: {message}")
        wait = self._head.value(b"retry-after")
        retry = float(wait) if wait.isdigit() and len(wait) < 8 else None
        return RelayedError(message, 400 if status == 422 else status, told, retry)


def unpacked(body: bytes, coding: bytes) -> bytes:
    """The body as it was before it was packed, within the same bound; nothing where it cannot be read."""
    if not coding:
        return body
    if coding.lower() not in PACKED:
        return b""
    try:
        return zlib.decompressobj(GZIP_OR_ZLIB).decompress(body, MOST_BODY)
    except zlib.error:
        return b""


def words_of(body: bytes) -> tuple[str, Mapping[str, Any]]:
    """The message of an error in whatever shape it has, and its members."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body.decode("utf-8", "replace").strip()[:LONGEST_MESSAGE] or "it gave no reason", {}
    told = cast("dict[str, Any]", answer) if isinstance(answer, dict) else {}
    inner = told.get("error", told.get("detail", told))
    if isinstance(inner, str):
        return inner[:LONGEST_MESSAGE], {}
    members = cast("dict[str, Any]", inner) if isinstance(inner, dict) else {}
    message = members.get("message")
    text = message if isinstance(message, str) else orjson.dumps(inner).decode()
    return text[:LONGEST_MESSAGE], members
