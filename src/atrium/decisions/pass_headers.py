"""Which headers pass the gateway, in both directions. Source: contract `olla.md`, section 9.

Names are looked up in a memo, since real heads differ in their values and hardly ever in their names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec

from atrium.core.endpoints import Header

HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer transfer-encoding "
    b"upgrade".split()
)
KEYS = frozenset({b"authorization", b"x-api-key", b"xi-api-key", b"api-key"})
"""What admission reads."""
NOT_ONWARD = (
    HOP_BY_HOP
    | KEYS
    | frozenset(
        b"x-goog-api-key x-auth-token cookie host content-length expect via x-request-id x-forwarded-for x-real-ip "
        b"x-forwarded-proto x-forwarded-host x-olla-target x-olla-session-id".split()
    )
)
NOT_BACK = HOP_BY_HOP | frozenset({b"content-length", b"set-cookie", b"authorization", b"x-api-key", b"x-auth-token"})
NOT_BACK_FAMILIES = (b"x-olla-", b"access-control-", b"x-ratelimit-")
OUR_KEY = re.compile(rb"lollms_[0-9a-fA-F]{16}_")
NOTHING: frozenset[bytes] = frozenset()
OUR_KEY_START = b"lollms_"
NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [^\x00\r\n]*)?")
MOST_NAMES = 4096
MOST_STATUSES = 256
NO_NAMES: set[bytes] = set()
PERSISTENT = frozenset({b"keep-alive", b"Keep-Alive"})
PASS, DROP, LENGTH, CODING, CONNECTION, VIA = range(6)
SPECIAL = {b"content-length": LENGTH, b"transfer-encoding": CODING, b"connection": CONNECTION, b"via": VIA}


class BadHead(ValueError):
    """A response head that is not HTTP, or not to be trusted."""


def named_by(headers: Iterable[Header]) -> set[bytes]:
    """Names that `Connection` declares to be for this hop only."""
    return {
        token.strip().lower() for name, value in headers if name == b"connection" for token in value.split(b",")
    } - {b"close", b"keep-alive", b""}


def onward(headers: Sequence[Header], own: frozenset[bytes]) -> list[bytes]:
    """The lines of a client's head that an endpoint may see. `own`: names that the endpoint's configuration sets."""
    hop = named_by(headers) if any(name == b"connection" for name, _ in headers) else NOTHING
    return [
        b"%b: %b\r\n" % (name, value)
        for name, value in headers
        if name not in NOT_ONWARD
        and name not in own
        and name not in hop
        and not (OUR_KEY_START in value and OUR_KEY.search(value))
    ]


def forwarded_for(peer: str, presented: bytes, *, trusted: bool) -> bytes:
    """`X-Forwarded-For`: what a trusted proxy sent with the peer behind it, else the peer alone."""
    return b"%b, %b" % (presented, peer.encode()) if trusted and presented else peer.encode()


class ResponseHead(msgspec.Struct, gc=False):
    status: int
    kept: bytes
    """Lines that go on to the client, each with its end."""
    length: int | None
    chunked: bool
    close: bool
    """The connection cannot be used again."""
    via: bytes
    whole: bytes
    """The head as it came."""

    def value(self, name: bytes) -> bytes:
        """The first value of a lower-case name; for rare looks only."""
        for line in self.whole.split(b"\r\n")[1:]:
            own, _, value = line.partition(b":")
            if own.lower() == name:
                return value.strip()
        return b""


class HeadReader:
    """Reads response heads; remembers what to do with each header name."""

    def __init__(self, own: frozenset[bytes] = frozenset()) -> None:
        self._own = own
        self._known: dict[bytes, int] = {}
        self._statuses: dict[bytes, tuple[int, bool]] = {}

    def read(self, whole: bytes) -> ResponseHead:
        """`whole` up to, and without, the empty line. Raises BadHead."""
        lines = whole.split(b"\r\n")
        breaks = len(lines) - 1
        status, old = self._statuses.get(lines[0]) or self._learn_status(lines[0])
        if whole.count(b"\n") != breaks or whole.count(b"\r") != breaks:
            raise BadHead("its head has a bare line break")
        if b"\x00" in whole:
            raise BadHead("it is not HTTP/1.1")
        head = ResponseHead(status, b"", None, chunked=False, close=old, via=b"", whole=whole)
        known = self._known
        kept: list[bytes] = []
        hop: set[bytes] = NO_NAMES
        del lines[0]
        for line in lines:
            name, colon, value = line.partition(b":")
            what = known.get(name)
            if what is None:
                what = self._learn(name)
            if not colon:
                raise BadHead("its head has a line without a colon")
            if what == PASS:
                kept.append(line)
            elif what != DROP and (names := special(head, what, value.strip(b" \t"))):
                hop = hop | names
        if hop:
            kept = [line for line in kept if line.partition(b":")[0].lower() not in hop]
        if head.chunked and head.length is not None:
            head.length, head.close = None, True
        kept.append(b"")
        head.kept = b"\r\n".join(kept)
        return head

    def _learn_status(self, line: bytes) -> tuple[int, bool]:
        """Status, and whether it is HTTP/1.0."""
        match = STATUS_LINE.fullmatch(line)
        if match is None:
            raise BadHead("it is not HTTP/1.1")
        read = (int(match[2]), match[1] == b"0")
        if len(self._statuses) < MOST_STATUSES:
            self._statuses[line] = read
        return read

    def _learn(self, name: bytes) -> int:
        if not NAME.fullmatch(name):
            raise BadHead("its head has an impossible name")
        low = name.lower()
        what = SPECIAL.get(low, PASS)
        if what == PASS and (low in NOT_BACK or low in self._own or low.startswith(NOT_BACK_FAMILIES)):
            what = DROP
        if len(self._known) < MOST_NAMES:
            self._known[name] = what
        return what


def special(head: ResponseHead, what: int, value: bytes) -> set[bytes]:
    """Note what frames the message; gives names that are for this hop only."""
    if what == LENGTH:
        if not value.isdigit() or len(value) > 18 or head.length not in (None, int(value)):
            raise BadHead("its content-length cannot be trusted")
        head.length = int(value)
    elif what == CODING:
        if value.lower() != b"chunked" or head.chunked:
            raise BadHead("its transfer-encoding is not chunked")
        head.chunked = True
    elif what == VIA:
        head.via = b"%b, %b" % (head.via, value) if head.via else value
    elif value in PERSISTENT:
        head.close = False
    else:
        tokens = {token.strip().lower() for token in value.split(b",")}
        if b"close" in tokens:
            head.close = True
        elif b"keep-alive" in tokens:
            head.close = False
        return tokens - {b"close", b"keep-alive", b""}
    return NO_NAMES
