"""A request to the fake endpoint, and the orders in it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import parse_qsl

import httptools

ORDER = re.compile(rb"\[fake ([^\]]{1,100})\]")


@dataclass(slots=True)
class Request:
    method: str = ""
    url: bytes = b""
    headers: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    body: bytearray = field(default_factory=bytearray)
    begun: bool = False
    whole: bool = False

    def header(self, name: str) -> str:
        return next((value for own, value in self.headers if own == name), "")

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self.url.partition(b"?")[2].decode("latin-1")))

    @property
    def faults(self) -> dict[str, str]:
        ordered = ORDER.search(self.body)
        told = self.header("x-fake") or (ordered[1].decode() if ordered else "")
        pairs = (word.strip().partition("=") for word in told.split(",") if word.strip())
        return {name: value for name, _, value in pairs}


class Counting(Protocol):
    received: int
    """Bytes of bodies."""


class Reader:
    """httptools' callbacks, for one request after the other."""

    def __init__(self, endpoint: Counting) -> None:
        self.endpoint = endpoint
        self.request = Request()
        self.parser = httptools.HttpRequestParser(self)

    def on_url(self, url: bytes) -> None:
        self.request.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.request.headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        self.request.method = self.parser.get_method().decode()
        self.request.begun = True

    def on_body(self, body: bytes) -> None:
        self.request.body += body
        self.endpoint.received += len(body)

    def on_message_complete(self) -> None:
        self.request.whole = True
