"""Raw bytes to a server and back, so that nothing a client library does stands between the test and the wire."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import IO
from urllib.parse import urlsplit

PATIENCE = 20.0


@dataclass(frozen=True)
class Raw:
    status: int
    headers: list[tuple[str, str]]
    body: bytes
    trailers: bytes
    whole: bool
    """It ended as its framing says that it ends."""

    def header(self, name: str) -> str | None:
        found = self.all(name)
        return found[0] if found else None

    def all(self, name: str) -> list[str]:
        return [value for own, value in self.headers if own.lower() == name]


def connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname or "", parts.port or 80), timeout=PATIENCE)


def exchange(url: str, data: bytes, *, head_only: bool = False) -> Raw:
    """Send these bytes on a connection of their own and read one answer."""
    with connect(url) as line:
        line.sendall(data)
        return read_answer(line, head_only=head_only)


def read_answer(line: socket.socket, *, head_only: bool = False) -> Raw:
    reader = line.makefile("rb")
    status_line = reader.readline()
    if not status_line:
        return Raw(0, [], b"", b"", whole=False)
    status = int(status_line.split()[1])
    headers: list[tuple[str, str]] = []
    while (text := reader.readline()) not in (b"\r\n", b""):
        name, _, value = text.decode("latin-1").partition(":")
        headers.append((name, value.strip()))
    known = {name.lower(): value for name, value in headers}
    if head_only or status in (204, 304):
        return Raw(status, headers, b"", b"", whole=True)
    if known.get("transfer-encoding") == "chunked":
        return chunked(status, headers, reader)
    if "content-length" in known:
        body = reader.read(int(known["content-length"]))
        return Raw(status, headers, body, b"", whole=len(body) == int(known["content-length"]))
    return Raw(status, headers, reader.read(), b"", whole=True)


def chunked(status: int, headers: list[tuple[str, str]], reader: IO[bytes]) -> Raw:
    body = b""
    while True:
        try:
            line = reader.readline()
        except ConnectionError:
            line = b""
        if not line.endswith(b"\r\n"):
            return Raw(status, headers, body, b"", whole=False)
        size = int(line, 16)
        if size == 0:
            trailers = b""
            while (text := reader.readline()) not in (b"\r\n", b""):
                trailers += text
            return Raw(status, headers, body, trailers, whole=True)
        body += reader.read(size)
        reader.readline()


def post(path: str, body: bytes, *headers: str, kind: str = "application/json") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, *headers]).encode("latin-1") + b"\r\n\r\n" + body


def get(path: str, *headers: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *headers]).encode("latin-1") + b"\r\n\r\n"
