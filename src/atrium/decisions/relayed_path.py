"""From the path that a client asked for to the path that an endpoint is asked for, byte for byte.

Source: contract `olla.md`, section 3.2.
"""

from __future__ import annotations

import re

from atrium.core.errors import InvalidPath
from atrium.core.kinds import EVERY, PREFIXES, Kind

ROOT = b"/olla/"
DOT = re.compile(rb"(?:^|[/\\]|%2f|%5c)(?:\.|%2e){1,2}(?:$|[/\\]|%2f|%5c)", re.IGNORECASE)


def split_prefix(path: bytes) -> tuple[str, bytes] | None:
    """Canonical prefix and the rest, from its slash on; None for a prefix that nobody knows."""
    name, slash, rest = path[len(ROOT) :].partition(b"/")
    low = name.decode("latin-1").lower()
    if low == EVERY:
        return EVERY, slash + rest or b"/"
    kind = PREFIXES.get(low)
    return (kind.name, slash + rest or b"/") if kind else None


def is_suspicious(path: bytes) -> bool:
    """Whether `check_path` would refuse it."""
    try:
        check_path(path)
    except InvalidPath:
        return True
    return False


def check_path(path: bytes) -> None:
    """Raises InvalidPath for dot segments and NUL, plain or percent-encoded."""
    if b"\x00" in path or b"%00" in path:
        raise InvalidPath("The path has a NUL in it")
    if (b"." in path or b"%2" in path) and DOT.search(path):
        raise InvalidPath("The path has a '.' or '..' segment", hint="Write the path as it is meant")


def upstream_path(base: str, rest: bytes) -> bytes:
    """The endpoint's base path in front; a base that ends in `/v1` is not doubled."""
    root = base.encode("latin-1", "replace")
    if root.endswith(b"/v1") and (rest.startswith((b"/v1/", b"/v1?")) or rest == b"/v1"):
        rest = rest[3:]
    return root + rest


def spelled(kind: Kind) -> str:
    """A prefix to show in a message."""
    return kind.prefixes[0]
