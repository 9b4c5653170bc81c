"""Who is calling: reads the key from a request's head and has it checked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from atrium.core.errors import InvalidKey
from atrium.core.people import CONTROL, Caller
from atrium.decisions.allow import Area, allow, area_of, must_check
from atrium.http.edge import Exchange, Headers

KEY_HEADERS = (b"authorization", b"x-api-key", b"xi-api-key", b"api-key")
"""The first present wins. The same names as `pass_headers.KEYS`, which never reach an endpoint."""
KEY_IN_QUERY = re.compile(rb"(?:^|&)(?:api[_-]?key|key|access_token|token)=|lollms_[0-9a-f]{16}_", re.IGNORECASE)


class KeyCheck(Protocol):
    async def __call__(self, presented: str) -> Caller:
        """Raises InvalidKey."""
        ...

    def known(self, presented: str) -> Caller | None:
        """The caller, where that can be said without a wait."""
        ...


@dataclass(frozen=True, slots=True)
class Admission:
    check_key: KeyCheck
    required: bool

    async def admit(self, exchange: Exchange, headers: Headers, query: bytes) -> Caller | None:
        """None on paths that are open to all. Raises MissingKey, InvalidKey, Forbidden."""
        if exchange.control:
            return CONTROL
        area = area_of(exchange.path)
        if area is Area.OPEN:
            return None
        refuse_key_in_query(query)
        presented = presented_key(headers)
        caller = await self.check_key(presented) if must_check(presented, area, required=self.required) else None
        return allow(caller, area, required=self.required)

    def at_once(self, headers: Headers, query: bytes, area: Area) -> Caller | None:
        """The caller, where no wait is needed; None: `in_time` must be asked.

        Raises MissingKey, InvalidKey, Forbidden.
        """
        refuse_key_in_query(query)
        presented = presented_key(headers)
        if not must_check(presented, area, required=self.required):
            return allow(None, area, required=self.required)
        known = self.check_key.known(presented)
        return allow(known, area, required=self.required) if known else None

    async def in_time(self, headers: Headers, area: Area) -> Caller:
        """Raises InvalidKey, Forbidden."""
        caller = await self.check_key(presented_key(headers))
        return allow(caller, area, required=self.required)


def refuse_key_in_query(query: bytes) -> None:
    """Raises InvalidKey."""
    if query and KEY_IN_QUERY.search(query):
        raise InvalidKey("A key in the address is refused, since addresses end up in logs", hint="Send it in a header")


def presented_key(headers: Headers) -> str:
    """What was shown as a key, without looking at whether it is one; empty when nothing was."""
    found = dict(headers[::-1])
    for name in KEY_HEADERS:
        if name in found:
            value = found[name].decode("latin-1").strip()
            if name == b"authorization":
                scheme, _, value = value.partition(" ")
                return value.strip() if scheme.lower() == "bearer" else ""
            return value
    return ""
