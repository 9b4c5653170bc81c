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
"""The first present wins. Whatever is read here is never sent on to an endpoint."""
KEY_IN_QUERY = re.compile(rb"(?:^|&)(?:api[_-]?key|key|access_token|token)=|lollms_[0-9a-f]{16}_", re.IGNORECASE)


class KeyCheck(Protocol):
    async def __call__(self, presented: str) -> Caller:
        """Raises InvalidKey."""
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
        if KEY_IN_QUERY.search(query):
            raise InvalidKey(
                "A key in the address is refused, since addresses end up in logs", hint="Send it in a header"
            )
        presented = presented_key(headers)
        caller = await self.check_key(presented) if must_check(presented, area, required=self.required) else None
        return allow(caller, area, required=self.required)


def presented_key(headers: Headers) -> str:
    """What was shown as a key, without looking at whether it is one; empty when nothing was."""
    found = {name: value for name, value in reversed(headers) if name in KEY_HEADERS}
    for name in KEY_HEADERS:
        if name in found:
            value = found[name].decode("latin-1").strip()
            if name == b"authorization":
                scheme, _, value = value.partition(" ")
                return value.strip() if scheme.lower() == "bearer" else ""
            return value
    return ""
