"""A request's head as the rest of the server reads it, whichever way it was spelled."""

from __future__ import annotations

import re

from atrium.decisions.relayed_path import ROOT, split_prefix

OFFER = re.compile(rb"\r\nupgrade:[^\r\n]*(?=\r\n)", re.IGNORECASE)
"""A whole line: the rest of another would be taken for the end of the line before it."""


def canonical_spelling(path: bytes) -> bytes:
    """A page's path with the gateway's prefix in lower case, since prefixes are matched without regard to it."""
    name, slash, rest = path[len(ROOT) :].partition(b"/")
    return ROOT + name.lower() + slash + rest if split_prefix(path) else path


def without_offers(data: bytes) -> bytes:
    """Without the offer to go on with another protocol, such as h2c, for which the parser would skip the body.

    What asks for WebSocket stays, to be told that there is none.
    """
    head, end, rest = data.partition(b"\r\n\r\n")
    return data if b"websocket" in head.lower() else OFFER.sub(b"", head) + end + rest


def origin_form(url: bytes) -> bytes:
    """The path of an address that was given whole, as to a proxy; anything else as it is."""
    scheme, found, rest = url.partition(b"://")
    if not found or scheme.lower() not in (b"http", b"https"):
        return url
    return b"/" + rest.partition(b"/")[2]
