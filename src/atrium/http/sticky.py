"""Which conversation a request belongs to, and which endpoint answered it before. Source: `olla.md`, section 8."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote_from_bytes

from atrium.decisions.pass_headers import KEYS
from atrium.dialects.peek import top_level
from atrium.http.asked import Asked
from atrium.relay.directory import Endpoint
from atrium.relay.sessions import Sessions, session_key
from atrium.settings.gateway import StickySessions

SAFE = "!#$&'()*+,-./:;<=>?@[]^_`{|}~ %"
"""What a session's id may hold and be told as it came."""


@dataclass(frozen=True, slots=True)
class Pin:
    """A conversation's key, and what is told of it in the answer's head."""

    key: bytes
    lines: bytes


@dataclass(frozen=True, slots=True)
class Telling:
    """What of a request may tell its conversation."""

    asked: Asked
    address: str
    body: bytes
    model: str


def stick(sessions: Sessions, rules: StickySessions, request: Telling, ranked: list[Endpoint]) -> Pin:
    """Move the endpoint that answered before to the front of `ranked`. No key: nothing tells a conversation."""
    source, value = telling(rules, request)
    own = request.asked.header(b"x-olla-session-id")
    echo = b"x-olla-session-id: %b\r\n" % quote_from_bytes(own, SAFE).encode("ascii") if own else b""
    if not source:
        return Pin(b"", b"x-olla-sticky-session: disabled\r\n" + echo)
    key = session_key(request.model, source, value)
    before = sessions.find(key)
    place = next((i for i, one in enumerate(ranked) if one.spec.name == before), -1)
    if place > 0:
        ranked.insert(0, ranked.pop(place))
    how = "miss" if not before else "hit" if place >= 0 else "repin"
    lines = f"x-olla-sticky-session: {how}\r\nx-olla-sticky-key-source: {source}\r\n".encode("ascii")
    return Pin(key, lines + echo)


def telling(rules: StickySessions, request: Telling) -> tuple[str, bytes]:
    """The first source that says something, and what it says."""
    for source in rules.key_sources:
        value = said(source, rules, request)
        if value:
            return source, value
    return "", b""


def said(source: str, rules: StickySessions, request: Telling) -> bytes:
    asked = request.asked
    if source == "session_header":
        return asked.header(b"x-olla-session-id")
    if source == "prefix_hash":
        return prefix_of(request.body, rules.prefix_hash_bytes)
    if source == "auth_header":
        keys: Sequence[bytes] = [asked.header(name) for name in sorted(KEYS)]
        return next((hashlib.sha256(key).digest() for key in keys if key), b"")
    return request.address.encode("ascii", "replace")


def prefix_of(body: bytes, most: int) -> bytes:
    """The beginning of `messages`, as the client wrote it."""
    if b'"messages"' not in body:
        return b""
    for key, start, end in top_level(body):
        if key == "messages":
            return body[start : min(end, start + most)]
    return b""
