"""What every answer carries, as plain functions, so that a lane below ASGI can call the same ones."""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from atrium.core.answers import Timing, Usage
from atrium.core.errors import AtriumError, MethodNotAllowed, Unauthenticated
from atrium.core.people import Caller
from atrium.dialects.openai.errors import error_body
from atrium.settings.tree import Cors

Headers = list[tuple[bytes, bytes]]
REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
LONGEST_RETRY = 60
MOST_DROPPED = 32
SURFACES = (
    ("/v1", "openai"),
    ("/ollama/v1", "openai"),
    ("/api/admin", "admin"),
    ("/internal", "internal"),
)


@dataclass(slots=True)
class Exchange:
    """One request from its head to its last byte: what the closing event and the metrics tell of it."""

    request_id: str
    method: str
    path: str
    started: float
    """On the monotonic clock, in seconds."""
    caller: Caller | None = None
    control: bool = False
    """It came over the control socket."""
    status: int = 0
    sent: int = 0
    model: str = ""
    usage: Usage = field(default_factory=Usage)
    timing: Timing = field(default_factory=Timing)
    broken: str = ""
    """Why the answer was not whole."""


def take_request_id(presented: bytes) -> str:
    """The client's own id if it is a decent one, else a fresh unguessable one."""
    return presented.decode("ascii") if REQUEST_ID.fullmatch(presented) else secrets.token_hex(8)


def surface_of(path: str) -> str:
    for prefix, name in SURFACES:
        if path == prefix or path.startswith(prefix + "/"):
            return name
    return "other"


def stamp_headers(exchange: Exchange, now: float, correlation: bytes) -> Headers:
    """`now` on the clock of `exchange.started`."""
    took = max(0, round((now - exchange.started) * 1000))
    request_id = exchange.request_id.encode("ascii")
    return [
        (b"x-request-id", request_id),
        (b"x-correlation-id", correlation if REQUEST_ID.fullmatch(correlation) else request_id),
        (b"openai-processing-ms", b"%d" % took),
    ]


def cors_headers(cors: Cors, origin: bytes) -> Headers:
    if not cors.enabled:
        return []
    if "*" in cors.origins:
        allowed: Headers = [(b"access-control-allow-origin", b"*")]
    elif origin.decode("latin-1") in cors.origins:
        allowed = [(b"access-control-allow-origin", origin), (b"vary", b"Origin")]
    else:
        return [(b"vary", b"Origin")]
    exposed = b"X-Request-ID, X-Atrium-Dropped, Retry-After"
    return [*allowed, (b"access-control-expose-headers", exposed)]


def preflight_headers(cors: Cors, origin: bytes) -> Headers:
    headers = cors_headers(cors, origin)
    if not any(name == b"access-control-allow-origin" for name, _ in headers):
        return headers
    return [
        *headers,
        (b"access-control-allow-methods", b"GET, POST, PUT, DELETE, OPTIONS"),
        (b"access-control-allow-headers", b"Content-Type, Authorization, X-Api-Key, X-Request-ID, OpenAI-Beta"),
        (b"access-control-max-age", b"300"),
    ]


def error_answer(error: AtriumError) -> tuple[int, Headers, bytes]:
    """Status, headers and body of an error in the caller's dialect; today's surfaces all speak OpenAI's."""
    body = error_body(error)
    headers: Headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if isinstance(error, Unauthenticated):
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", ", ".join(error.allow).encode("ascii")))
    if error.retry_after is not None or error.status == 503:
        wait = min(LONGEST_RETRY, max(1, math.ceil(error.retry_after or 1)))
        headers.append((b"retry-after", b"%d" % wait))
    return error.status, headers, body


def dropped_header(names: Sequence[str]) -> dict[str, str]:
    """`X-Atrium-Dropped`, absent when nothing was dropped; names are percent-encoded where they are unsafe."""
    if not names:
        return {}
    safe = (re.sub(r"[^A-Za-z0-9_.\[\]-]", escaped, name[:128]) for name in names[:MOST_DROPPED])
    return {"X-Atrium-Dropped": ", ".join(safe)}


def escaped(found: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in found.group().encode("utf-8", "replace"))


def closing_fields(exchange: Exchange, now: float) -> dict[str, object]:
    """The one event that ends every request."""
    fields: dict[str, object] = {
        "id": exchange.request_id,
        "method": exchange.method,
        "path": exchange.path,
        "status": exchange.status,
        "seconds": round(now - exchange.started, 6),
        "bytes": exchange.sent,
        "caller": exchange.caller.name if exchange.caller else None,
        "key": exchange.caller.key_id if exchange.caller else None,
    }
    if exchange.model:
        fields |= {
            "model": exchange.model,
            "prompt_tokens": exchange.usage.prompt_tokens,
            "completion_tokens": exchange.usage.completion_tokens,
            "queued": round(exchange.timing.queued, 6),
            "loaded": round(exchange.timing.loaded, 6),
        }
    if exchange.broken:
        fields["broken"] = exchange.broken
    return fields
