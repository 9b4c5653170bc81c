"""A request's head that its connection has sent before, recognised without being parsed again.

A client that keeps its connection sends the same head with every request, but for the length of the body. Only what the
parser has accepted once is recognised, byte by byte; whatever differs in anything else is the parser's, as before.
"""

from __future__ import annotations

import re

from atrium.http.asked import Asked, Reading

LONGEST = 4096
"""Bytes of a head that are worth keeping with each connection."""
LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,7})[ \t]*\r\n", re.IGNORECASE)
NOT_ALIKE = re.compile(rb"\r\n(?:transfer-encoding|connection|expect|upgrade|trailer)[ \t]*:", re.IGNORECASE)
"""Headers that change how a connection or a body goes on."""


class KnownHead:
    __slots__ = ("_after", "_before", "asked")

    def __init__(self, asked: Asked, before: bytes, after: bytes) -> None:
        """`before` and `after`: the head's bytes around the number of its content-length."""
        self.asked = asked
        self._before = before
        self._after = after

    def body_of(self, data: bytes) -> bytes | None:
        """The body, where `data` is one whole request with this head and nothing else; `asked` then has its length."""
        before, after = self._before, self._after
        if not data.startswith(before):
            return None
        start = len(before)
        end = data.find(b"\r", start, start + 8)
        length = data[start:end]
        if end < 0 or not length.isdigit() or not data.startswith(after, end):
            return None
        body = data[end + len(after) :]
        if len(body) != int(length):
            return None
        if length != self.asked.length:
            self.asked = self.asked.resized(length)
        return body


def known_head(data: bytes, asked: Asked) -> KnownHead | None:
    """What is to be remembered of a request whose head begins with `data`; None for what is not plain enough."""
    end = data.find(b"\r\n\r\n", 0, LONGEST)
    if end < 0 or asked.method != b"POST" or asked.http10 or asked.reading not in (Reading.JSON, Reading.NAMED):
        return None
    head = data[: end + 4]
    lengths = list(LENGTH.finditer(head))
    if len(lengths) != 1 or NOT_ALIKE.search(head) or head.count(b"\n") != head.count(b"\r\n"):
        return None
    place = lengths[0]
    if place[1] != asked.length:
        return None
    return KnownHead(asked, head[: place.start(1)], head[place.end(1) :])
