"""Who may come in: the Host that was asked for, the size that was announced, the key that was shown."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from atrium.core.errors import Forbidden, NotOffered, TooLarge
from atrium.decisions.allow import GOVERNING, area_of
from atrium.decisions.doors import is_at
from atrium.decisions.relayed_path import check_path
from atrium.http.admission import Admission
from atrium.http.asked import Asked
from atrium.http.edge import Exchange, Headers, read_lines
from atrium.http.limits import Limiter
from atrium.http.metering import is_metered, quota_lines
from atrium.http.reading import BodyBounds, within
from atrium.http.scope import exchange_of, header, headers_of, is_admitted, is_control, joined, peer_of

LARGEST_ACT = 1024 * 1024
"""Bytes of what an account or an administrator asks for."""
MOST_HOSTS = 64
"""Spellings with their ports that are known to be right."""
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1", "[::1]"})


def host_name(host: bytes) -> str:
    """`Host` without its port."""
    text = host.decode("latin-1").strip().lower()
    if text.startswith("["):
        return text.split("]", 1)[0] + "]"
    return text.rsplit(":", 1)[0] if text.count(":") == 1 else text


def refuse_upgrade(headers: Headers) -> None:
    """Raises NotOffered for WebSocket. Any other upgrade is an offer that may be passed over, and is."""
    found = {name: value.lower() for name, value in headers if name in (b"upgrade", b"connection")}
    if b"websocket" in found.get(b"upgrade", b"") and b"upgrade" in found.get(b"connection", b""):
        raise NotOffered("WebSocket is not offered here", hint="Send a plain HTTP request")


class HostCheck:
    """A server on loopback answers only to loopback's names, or any web page could reach it under one of its own."""

    def __init__(self, app: ASGIApp, bound: str) -> None:
        self.app = app
        self._good: set[bytes] = set()
        self._names = LOOPBACK | {bound.lower()} if bound in LOOPBACK or bound.startswith("127.") else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not is_control(scope):
            self.check(header(scope, b"host"))
            refuse_upgrade(headers_of(scope))
        await self.app(scope, receive, send)

    def check(self, host: bytes) -> None:
        """Raises Forbidden."""
        if self._names is None or host in self._good:
            return
        name = host_name(host)
        if name and name not in self._names:
            raise Forbidden(
                f"This server listens on loopback and does not answer to the name '{name[:100]}'",
                hint="Use localhost, or set server.host to an address of this machine",
            )
        if len(self._good) < MOST_HOSTS:
            self._good.add(host)


def check_head(asked: Asked, hosts: HostCheck) -> None:
    """A head on the lane, which need not be looked at again. Raises Forbidden, NotOffered, and as `check_path` does."""
    hosts.check(asked.header(b"host"))
    if asked.place.suspicious:
        check_path(asked.path)
    if asked.upgrades:
        refuse_upgrade(asked.headers)
    asked.is_checked = True


class RateCheck:
    """Takes a token before the key is looked up, so that guessing keys is limited, too."""

    def __init__(self, app: ASGIApp, limiter: Limiter) -> None:
        self.app = app
        self._limiter = limiter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not is_control(scope):
            exchange = exchange_of(scope)
            address = self._limiter.address(peer_of(scope), joined(scope, b"x-forwarded-for"))
            exchange.address = exchange.trail.address = address
            if not is_admitted(scope):
                exchange.limits = read_lines(self._limiter.admit(exchange.path, exchange.address))
        await self.app(scope, receive, send)


class SizeCheck:
    """Refuses a body by its announced length, before a byte of it is read; one for accounts or administration, whose
    routes are handed it parsed, also by what has come of it."""

    def __init__(self, app: ASGIApp, limiter: Limiter) -> None:
        self.app = app
        self._limiter = limiter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            length = header(scope, b"content-length")
            if length.isdigit() and int(length[:20]) > self._limiter.most_body:
                self._limiter.violations.size += 1
                raise TooLarge(
                    f"The body has {length[:20].decode()} bytes; at most {self._limiter.most_body} are taken"
                )
            if any(is_at(scope["path"], root) for root in GOVERNING):
                receive = within(receive, BodyBounds(min(LARGEST_ACT, self._limiter.most_body), self._limiter.patience))
        try:
            await self.app(scope, receive, send)
        except TooLarge:
            self._limiter.violations.size += 1
            raise


class Identity:
    """Finds out who is calling, or refuses."""

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self.app = app
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            exchange = exchange_of(scope)
            query: bytes = scope.get("query_string", b"")
            exchange.caller = await self._admission.admit(exchange, headers_of(scope), query)
            self._count(exchange)
        await self.app(scope, receive, send)

    def _count(self, exchange: Exchange) -> None:
        """Raises RateLimited."""
        caller, meter = exchange.caller, self._admission.meter
        if caller is None or meter.idle or not is_metered(exchange, area_of(exchange.method, exchange.path)):
            return
        exchange.hold = meter.enter(caller)
        exchange.standing = lambda: quota_lines(meter, caller, (exchange.model,))
