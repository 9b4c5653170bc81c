"""Header lines of relayed requests and answers, as bytes."""

from __future__ import annotations

import time
from email.utils import formatdate
from urllib.parse import quote

from atrium.core.errors import AtriumError, RateLimited
from atrium.decisions.pass_headers import ResponseHead, forwarded_for, onward
from atrium.decisions.relayed_path import upstream_path
from atrium.http.edge import (
    Exchange,
    Headers,
    cors_headers,
    error_answer,
    stamp_headers,
    surface_of,
    take_request_id,
)
from atrium.http.framing import status_line
from atrium.http.parties import Client, Way
from atrium.http.route import Routing
from atrium.relay.directory import Endpoint
from atrium.settings.tree import Cors

BARE = frozenset({b"GET", b"HEAD", b"OPTIONS", b"DELETE"})
"""Methods that need not say that they have no body."""
SAFE = "!#$&'()*+,-./:;<=>?@[]^_`{|}~ "


def plain(text: str) -> bytes:
    """Single-line ASCII; everything else percent-encoded."""
    return (text if text.isascii() and text.isprintable() else quote(text, safe=SAFE)).encode("ascii")


def length_line(method: bytes, length: int) -> bytes:
    """How an endpoint is told where the body ends."""
    return b"content-length: %d\r\n" % length if length or method not in BARE else b""


def onward_head(request: Client, endpoint: Endpoint, framing: bytes, *, trusted: bool) -> bytes:
    """The request head that an endpoint gets. `trusted`: the peer is a proxy whose word about others counts."""
    asked = request.asked
    counts = request.claim.counts_tokens
    known = None if counts else asked.onward.get(endpoint)
    if known is None:
        # An answer that is read on its way must come as it is.
        own = endpoint.own_headers if asked.olla and not counts else endpoint.own_and_coding
        target = target_of(endpoint.spec.base, asked.rest, asked.query)
        known = b"%b %b HTTP/1.1\r\n%b%b%b" % (
            asked.method,
            target,
            endpoint.fixed_lines,
            b"".join(onward(asked.headers, own)),
            origin_lines(request, trusted=trusted),
        )
        if len(asked.onward) >= MOST_ENDPOINTS:
            asked.onward.clear()
        if not counts:
            asked.onward[endpoint] = known
    return b"%bx-request-id: %b\r\n%b\r\n" % (known, request.request_id.encode("ascii"), framing)


def target_of(base: str, rest: bytes, query: bytes) -> bytes:
    target = upstream_path(base, rest)
    return b"%b?%b" % (target, query) if query else target


def origin_lines(request: Client, *, trusted: bool) -> bytes:
    """Who asked, by which way. It depends on the head and the peer alone."""
    asked = request.asked
    first = asked.first
    via = asked.joined(b"via")
    presented, scheme, given = (
        (asked.joined(b"x-forwarded-for"), first.get(b"x-forwarded-proto"), first.get(b"x-forwarded-host"))
        if trusted
        else (b"", None, None)
    )
    return b"x-forwarded-for: %b\r\nx-real-ip: %b\r\nx-forwarded-proto: %b\r\nx-forwarded-host: %b\r\nvia: %b\r\n" % (
        forwarded_for(asked.peer, presented, trusted=trusted),
        request.address.encode("ascii", "replace"),
        scheme or asked.scheme.encode("ascii"),
        given or first.get(b"host", b""),
        b"%b, 1.1 atrium" % via if via else b"1.1 atrium",
    )


MOST_ENDPOINTS = 16
"""Of which a connection knows by heart what they get."""


def relayed_lines(request: Client, way: Way, cors: Cors, head: ResponseHead) -> bytes:
    """What stands in a relayed answer's head, without what frames it."""
    olla = request.asked.olla
    request_id = request.request_id.encode("ascii")
    if olla and not head.via and not way.sticky and not request.claim.lines and "*" in cors.origins:
        return b"%bx-olla-request-id: %b\r\n%bvia: 1.1 atrium\r\n%b%b" % (
            head.kept,
            request_id,
            way.source,
            request.limits,
            cors_lines(request, cors),
        )
    lines = [
        head.kept if olla else without_request_id(head.kept),
        b"x-olla-request-id: %b\r\n" % request_id,
        way.source,
        way.sticky,
        b"via: %b\r\n" % (b"%b, 1.1 atrium" % head.via if head.via else b"1.1 atrium"),
    ]
    if not olla:
        lines.append(b"x-request-id: %b\r\n" % request_id)
    lines += [request.limits, request.claim.lines, cors_lines(request, cors)]
    return b"".join(lines)


def source_lines(endpoint: Endpoint, model: str, routing: Routing | None) -> bytes:
    """Which endpoint and model answered, and how they were found."""
    lines = b"x-olla-endpoint: %b\r\nx-olla-backend-type: %b\r\n" % (
        endpoint.spec.name.encode("ascii", "replace"),
        endpoint.spec.kind.name.encode(),
    )
    if model:
        lines += b"x-olla-model: %b\r\n" % plain(model)
    return lines + routing_lines(routing)


def without_request_id(kept: bytes) -> bytes:
    """Under `/v1` the endpoint's own id gives way to ours."""
    if b"x-request-id:" not in kept.lower():
        return kept
    lines = kept.split(b"\r\n")
    return b"\r\n".join(line for line in lines if not line.lower().startswith(b"x-request-id:"))


def routing_lines(routing: Routing | None) -> bytes:
    if routing is None:
        return b""
    return b"x-olla-routing-strategy: %b\r\nx-olla-routing-decision: %b\r\nx-olla-routing-reason: %b\r\n" % routing


def cors_lines(request: Client, cors: Cors) -> bytes:
    path = "/olla" if request.asked.olla else request.asked.place.path
    if "*" in cors.origins:
        key = (cors.enabled, request.asked.olla)
        known = CORS_MEMO.get(key)
        if known is None:
            known = CORS_MEMO[key] = b"".join(b"%b: %b\r\n" % pair for pair in cors_headers(cors, b"", path))
        return known
    origin = request.asked.header(b"origin")
    return b"".join(b"%b: %b\r\n" % pair for pair in cors_headers(cors, origin, path))


CORS_MEMO: dict[tuple[bool, bool], bytes] = {}
"""The lines for every origin, which never differ."""


def refusal(error: AtriumError, url: bytes, headers: Headers, cors: Cors | None) -> bytes:
    """A whole answer to what never became a request; the connection ends with it."""
    path = url.partition(b"?")[0].decode("latin-1")
    status, own, body = error_answer(error, surface_of(path))
    known = dict(headers[::-1])
    now = time.monotonic()
    exchange = Exchange(take_request_id(known.get(b"x-request-id", b"")), "", path, now)
    lines = [*own, *stamp_headers(exchange, now, b""), (b"connection", b"close")]
    if cors is not None:
        lines += cors_headers(cors, known.get(b"origin", b""), path)
    head = b"".join(b"%b: %b\r\n" % pair for pair in lines)
    return b"%b%b\r\n%b" % (status_line(status), head, body)


def local_answer(request: Client, error: AtriumError, cors: Cors) -> tuple[int, bytes, bytes]:
    """Status, lines and body of an error of ours."""
    asked = request.asked
    status, headers, body = error_answer(error, asked.place.surface)
    headers = [pair for pair in headers if pair[0] != b"content-length"]
    headers.append((b"date", formatdate(usegmt=True).encode("ascii")))
    lines = [b"%b: %b\r\n" % pair for pair in [*headers, *stamp_headers(request.record(), time.monotonic(), b"")]]
    if request.way is not None:
        lines.append(routing_lines(request.way.routing))
    if not isinstance(error, RateLimited):
        lines += [request.limits, request.claim.lines]
    lines.append(cors_lines(request, cors))
    return status, b"".join(lines), body
