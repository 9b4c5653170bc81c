"""What every answer carries, as plain functions, so that a lane below ASGI can call the same ones."""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

from atrium.core.answers import Timing, Usage
from atrium.core.errors import AtriumError, MethodNotAllowed, RateLimited, Unauthenticated
from atrium.core.people import Caller
from atrium.core.trails import Trail
from atrium.dialects.lollms.errors import error_body as lollms_error
from atrium.dialects.olla.errors import error_body as olla_error
from atrium.dialects.ollama.errors import error_body as ollama_error
from atrium.dialects.openai.errors import error_body
from atrium.services.meter import NOTHING, Hold
from atrium.settings.tree import Cors

Headers = list[tuple[bytes, bytes]]
REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
LONGEST_RETRY = 60
IDS_AT_ONCE = 256
MOST_DROPPED = 32
LONGEST_USER = 256
OLLA_SURFACES = frozenset({"olla", "internal"})
LOLLMS_SURFACES = frozenset({"lollms", "account", "admin"})
SURFACES = (
    ("/api/auth", "account"),
    ("/api/api-keys", "account"),
    ("/api/usage", "account"),
    ("/api/datastores", "lollms"),
    ("/lollms", "lollms"),
    ("/v1", "openai"),
    ("/olla", "olla"),
    ("/ollama/api", "ollama"),
    ("/api", "ollama"),
    ("/ollama/v1", "openai"),
    ("/internal", "internal"),
)
BODIES: Mapping[str, Callable[[AtriumError], bytes]] = {
    "olla": olla_error,
    "internal": olla_error,
    "ollama": ollama_error,
    **dict.fromkeys(LOLLMS_SURFACES, lollms_error),
}
"""How a surface's clients read errors; all others read them as OpenAI's do."""
ADMIN = "/api/admin"
OLLA_EXPOSED = (
    b"X-Olla-Request-ID, X-Olla-Endpoint, X-Olla-Model, X-Olla-Backend-Type, X-Olla-Response-Time, "
    b"X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, Retry-After"
)
EXPOSED = (
    b"X-Request-ID, X-Atrium-Dropped, X-Atrium-Truncated, Retry-After, "
    b"X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, "
    b"X-RateLimit-Limit-Requests, X-RateLimit-Remaining-Requests, X-RateLimit-Reset-Requests, "
    b"X-RateLimit-Limit-Tokens, X-RateLimit-Remaining-Tokens, X-RateLimit-Reset-Tokens"
)
ALLOWED = b"Content-Type, Authorization, X-Api-Key, X-Request-ID, X-Atrium-Truncate, OpenAI-Beta"
OLLA_CORS: Headers = [
    (b"access-control-allow-methods", b"GET, POST, OPTIONS"),
    (b"access-control-allow-headers", b"Content-Type, Authorization, X-Request-ID, X-Olla-Session-ID, X-Api-Key"),
]


@dataclass(slots=True)
class Exchange:
    """One request from its head to its last byte: what the closing event and the metrics tell of it."""

    request_id: str
    method: str
    path: str
    started: float
    """On the monotonic clock, in seconds."""
    caller: Caller | None = None
    address: str = ""
    """The client's; empty over the control socket."""
    deed: str = ""
    """What an administrative act was about, for the audit log."""
    control: bool = False
    """It came over the control socket."""
    status: int = 0
    sent: int = 0
    model: str = ""
    usage: Usage = field(default_factory=Usage)
    timing: Timing = field(default_factory=Timing)
    user: str = ""
    """Whom the caller asked for, in the caller's words."""
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    """What the caller noted beside the request."""
    broken: str = ""
    """Why the answer was not whole."""
    hold: Hold = NOTHING
    """What it holds of its caller's quotas."""
    standing: Callable[[], bytes] | None = None
    """Header lines that tell what is left of them."""
    refused: AtriumError | None = None
    """What was answered in its place."""
    told: Mapping[str, str] = field(default_factory=dict[str, str])
    """What its head told of losses: fields that were dropped, turns that were cut."""
    limits: Headers = field(default_factory=list[tuple[bytes, bytes]])
    """What is left of the caller's rate."""
    olla: bool = False
    """It came in by the gateway's paths, whatever path it has now."""
    trail: Trail = field(default_factory=Trail)
    """Where it went, if an endpoint is asked in another dialect."""


def local_headers(exchange: Exchange) -> Headers:
    """Who answered: the endpoint that was asked in another dialect, and on the gateway's paths the built-in engine."""
    trail = exchange.trail
    if trail.endpoint:
        model = quote(trail.model, safe="/:@._-").encode("ascii")
        endpoint = trail.endpoint.encode("ascii", "replace")
        told = [(b"x-olla-endpoint", endpoint), (b"x-olla-backend-type", trail.kind.encode())]
        return [*told, (b"x-olla-model", model)]
    if not exchange.olla or not exchange.model:
        return []
    model = quote(exchange.model, safe="/:@._-").encode("ascii")
    return [(b"x-olla-endpoint", b"local"), (b"x-olla-backend-type", b"atrium"), (b"x-olla-model", model)]


class FreshIds:
    """Unguessable ids, from random bytes that are fetched many at a time."""

    def __init__(self) -> None:
        self._stock: list[str] = []

    def __call__(self) -> str:
        if not self._stock:
            many = secrets.token_hex(8 * IDS_AT_ONCE)
            self._stock = [many[i : i + 16] for i in range(0, len(many), 16)]
        return self._stock.pop()


FRESH_ID = FreshIds()


def take_request_id(presented: bytes) -> str:
    """The client's own id if it is a decent one, else a fresh unguessable one."""
    return presented.decode("ascii") if presented and REQUEST_ID.fullmatch(presented) else FRESH_ID()


def surface_of(path: str) -> str:
    if path.startswith(ADMIN):
        return "admin"
    for prefix, name in SURFACES:
        if path == prefix or path.startswith(prefix + "/"):
            return name
    return "other"


def stamp_headers(exchange: Exchange, now: float, correlation: bytes) -> Headers:
    """`now` on the clock of `exchange.started`."""
    took = max(0, round((now - exchange.started) * 1000))
    request_id = exchange.request_id.encode("ascii")
    headers = [
        (b"x-request-id", request_id),
        (b"x-correlation-id", correlation if REQUEST_ID.fullmatch(correlation) else request_id),
        (b"openai-processing-ms", b"%d" % took),
    ]
    # A refusal by a limit or a quota tells of that one alone.
    if not isinstance(exchange.refused, RateLimited):
        headers += exchange.limits
        headers += read_lines(exchange.standing()) if exchange.standing is not None else []
    if exchange.olla or surface_of(exchange.path) in OLLA_SURFACES:
        headers += [(b"x-olla-request-id", request_id), (b"x-olla-response-time", b"%dms" % took)]
    return headers


def cors_headers(cors: Cors, origin: bytes, path: str) -> Headers:
    if not cors.enabled:
        return []
    if "*" in cors.origins:
        allowed: Headers = [(b"access-control-allow-origin", b"*")]
    elif origin.decode("latin-1") in cors.origins:
        allowed = [(b"access-control-allow-origin", origin), (b"vary", b"Origin")]
    else:
        return [(b"vary", b"Origin")]
    if surface_of(path) in OLLA_SURFACES:
        return [*allowed, *OLLA_CORS, (b"access-control-expose-headers", OLLA_EXPOSED)]
    return [
        *allowed,
        (b"access-control-expose-headers", EXPOSED),
    ]


def preflight_headers(cors: Cors, origin: bytes, path: str) -> Headers:
    headers = cors_headers(cors, origin, path)
    if not any(name == b"access-control-allow-origin" for name, _ in headers):
        return headers
    if surface_of(path) in OLLA_SURFACES:
        return [*headers, (b"access-control-max-age", b"300")]
    return [
        *headers,
        (b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE, OPTIONS"),
        (
            b"access-control-allow-headers",
            ALLOWED,
        ),
        (b"access-control-max-age", b"300"),
    ]


def error_answer(error: AtriumError, surface: str = "openai") -> tuple[int, Headers, bytes]:
    """Status, headers and body of an error in the surface's dialect."""
    body = BODIES.get(surface, error_body)(error)
    headers: Headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if isinstance(error, Unauthenticated):
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", ", ".join(error.allow).encode("ascii")))
    if isinstance(error, RateLimited):
        headers += read_lines(error.lines)
    if error.retry_after is not None or error.status == 503:
        longest = math.inf if isinstance(error, RateLimited) else LONGEST_RETRY
        wait = min(longest, max(1, math.ceil(error.retry_after or 1)))
        headers.append((b"retry-after", b"%d" % wait))
    return error.status, headers, body


def read_lines(lines: bytes) -> Headers:
    """Header lines as pairs."""
    pairs = (line.split(b": ", 1) for line in lines.split(b"\r\n") if line)
    return [(name, value) for name, value in pairs]


def dropped_header(names: Sequence[str]) -> dict[str, str]:
    """`X-Atrium-Dropped`, absent when nothing was dropped; names are percent-encoded where they are unsafe."""
    if not names:
        return {}
    safe = (re.sub(r"[^A-Za-z0-9_.\[\]-]", escaped, name[:128]) for name in names[:MOST_DROPPED])
    return {"X-Atrium-Dropped": ", ".join(safe)}


def truncated_header(turns: int) -> dict[str, str]:
    """`X-Atrium-Truncated`: how many turns were left out, absent when none were."""
    return {"X-Atrium-Truncated": str(turns)} if turns else {}


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
    if exchange.trail.tries:
        fields["endpoint"] = exchange.trail.tries[-1][0]
    if exchange.user:
        fields["user"] = exchange.user[:LONGEST_USER]
    if exchange.metadata:
        fields["metadata"] = dict(exchange.metadata)
    if exchange.refused:
        fields["error"] = exchange.refused.code
    if exchange.broken:
        fields["broken"] = exchange.broken
    return fields
