"""Who is calling, and may they? Has what a request's head shows checked; both lanes ask this one object."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import unquote_to_bytes

from atrium.core.errors import Forbidden, InvalidKey, Unauthenticated
from atrium.core.people import CONTROL, Caller
from atrium.core.ports import AuditLog
from atrium.decisions.allow import SAFE, SESSION_FORM, Area, allow, area_of, must_check, same_origin
from atrium.decisions.doors import Door, DoorRules
from atrium.http.acts import act_by
from atrium.http.edge import Exchange, Headers
from atrium.services.check_key import digest_of
from atrium.services.meter import Meter

KEY_HEADERS = (b"authorization", b"x-api-key", b"xi-api-key", b"api-key")
"""The first present wins. The same names as `pass_headers.KEYS`, which never reach an endpoint."""
KEY_IN_QUERY = re.compile(
    rb"(?:^|&)(?:api[_-]?key|key|access_token|token)=|lollms_[0-9a-f]{16}_|ats_[0-9a-f]{64}", re.IGNORECASE
)
SESSION_COOKIE = "atrium_session"


class KeyCheck(Protocol):
    async def __call__(self, presented: str) -> Caller:
        """Raises InvalidKey."""
        ...

    def known(self, digest: bytes) -> Caller | None:
        """The caller who presented what has this digest, where that can be said without a wait."""
        ...


@dataclass(slots=True)
class Knock:
    """What a request shows at the door."""

    method: str
    path: str
    first: dict[bytes, bytes]
    """The first value of each header."""
    query: bytes
    area: Area
    seen: Seen | None = None
    """What was made of it, since the same head may come again."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a head comes to before anybody is known: the door, and the digest of what was presented, if it counts."""

    rules: DoorRules
    door: Door
    digest: bytes | None


@dataclass(frozen=True, slots=True)
class Admission:
    check_key: KeyCheck
    rules: DoorRules
    meter: Meter
    audit: AuditLog

    async def admit(self, exchange: Exchange, headers: Headers, query: bytes) -> Caller | None:
        """None on paths that are open to all. Raises MissingKey, InvalidKey, Forbidden."""
        if exchange.control:
            return CONTROL
        area = area_of(exchange.method, exchange.path)
        if area is Area.OPEN:
            return None
        knock = Knock(exchange.method, exchange.path, dict(headers[::-1]), query, area)
        return self.at_once(knock) or await self.in_time(knock)

    def at_once(self, knock: Knock) -> Caller | None:
        """The caller, where no wait is needed; None: `in_time` must be asked, as for whatever is written down.

        Raises MissingKey, InvalidKey, Forbidden.
        """
        seen = knock.seen
        if seen is None or seen.rules is not self.rules:
            seen = knock.seen = self._see(knock)
        if seen.digest is None:
            return allow(None, knock.area, knock.path, seen.door)
        if knock.area is Area.ADMIN:
            return None
        known = self.check_key.known(seen.digest)
        return allow(known, knock.area, knock.path, seen.door) if known else None

    def _see(self, knock: Knock) -> Seen:
        """Raises MissingKey, InvalidKey, Forbidden."""
        refuse_key_in_query(knock.query)
        door = self.rules.of(knock.path)
        presented, _ = presented_by(knock)
        checked = must_check(presented, knock.area, door)
        return Seen(self.rules, door, digest_of(presented) if checked else None)

    async def let_in(self, knock: Knock, address: str) -> Caller:
        """Into the lane; who changes an endpoint's models is written down before. Raises as `in_time` does."""
        caller = await self.in_time(knock)
        if knock.area is Area.ADMIN:
            await self.audit.add(act_by(caller, f"{knock.method} {knock.path}", address))
        return caller

    async def in_time(self, knock: Knock) -> Caller:
        """Raises InvalidKey, Forbidden."""
        door = self.rules.of(knock.path)
        presented, by_cookie = presented_by(knock)
        try:
            caller = await self.check_key(presented)
        except Unauthenticated:
            # A browser goes on sending the cookie of a session that has ended; behind an open door that is no harm.
            if not by_cookie or must_check("", knock.area, door):
                raise
            caller = None
        return allow(caller, knock.area, knock.path, door)


def refuse_key_in_query(query: bytes) -> None:
    """Written out or percent-encoded. Raises InvalidKey."""
    if query and KEY_IN_QUERY.search(unquote_to_bytes(query) if b"%" in query else query):
        raise InvalidKey("A key in the address is refused, since addresses end up in logs", hint="Send it in a header")


def presented_by(knock: Knock) -> tuple[str, bool]:
    """What was shown as a key, else the browser's session, and whether it was that one.

    Raises Forbidden for a change that a page of another origin asks for in its visitor's name.
    """
    presented = presented_key(knock.first)
    if presented:
        return presented, False
    found = knock.first
    session = session_cookie(found.get(b"cookie", b""))
    if session and knock.method not in SAFE and not is_ours(found):
        raise Forbidden("A page of another origin may not act in your name", hint="Send a key in a header")
    return session, bool(session)


def presented_key(first: dict[bytes, bytes]) -> str:
    """What was shown as a key, without looking at whether it is one; empty when nothing was."""
    for name in KEY_HEADERS:
        shown = first.get(name)
        if shown is not None:
            value = shown.decode("latin-1").strip()
            if name == b"authorization":
                scheme, _, value = value.partition(" ")
                return value.strip() if scheme.lower() == "bearer" else ""
            return value
    return ""


def session_cookie(cookies: bytes) -> str:
    """The session's token; empty when there is none."""
    if not cookies:
        return ""
    for pair in cookies.decode("latin-1").split(";"):
        name, _, value = pair.strip().partition("=")
        if name == SESSION_COOKIE and value.startswith(SESSION_FORM):
            return value
    return ""


def is_ours(headers: dict[bytes, bytes]) -> bool:
    """Whether the request came from a page of ours, or from no page at all."""
    origin, site, host = (headers.get(name, b"").decode("latin-1") for name in (b"origin", b"sec-fetch-site", b"host"))
    return same_origin(origin, site, host)
