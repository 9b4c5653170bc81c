"""A small client that costs little, so that what it measures is the server: one request per connection."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Door:
    """Where to knock: a TCP address or a unix socket."""

    host: str = "127.0.0.1"
    port: int = 0
    socket: Path | None = None
    key: str = ""

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.socket:
            return await asyncio.open_unix_connection(str(self.socket), limit=16 * 1024 * 1024)
        return await asyncio.open_connection(self.host, self.port, limit=16 * 1024 * 1024)


@dataclass(frozen=True, slots=True)
class Timed:
    """One streamed answer: seconds to the first token and to the end, and how many tokens came."""

    first: float
    total: float
    tokens: int


@asynccontextmanager
async def posted(door: Door, path: str, body: Any) -> AsyncGenerator[asyncio.StreamReader]:
    """The answer's reader, placed after its head. Raises RuntimeError unless the status is 200."""
    reader, writer = await door.connect()
    try:
        payload = json.dumps(body).encode()
        key = f"Authorization: Bearer {door.key}\r\n" if door.key else ""
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{key}Content-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(payload)}\r\nConnection: close\r\n\r\n".encode() + payload)
        answer = await reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{path}: {answer[:200]!r} {(await reader.read(2000))!r}")
        yield reader
    finally:
        writer.close()


async def lines(reader: asyncio.StreamReader) -> AsyncGenerator[bytes]:
    """The `data:` lines of an event stream; chunk sizes and blank lines are passed over."""
    while line := await reader.readline():
        if line.startswith(b"data: "):
            yield line[6:].rstrip()


async def stream_chat(door: Door, body: dict[str, Any]) -> Timed:
    """Through Atrium: time to the first text, tokens from the usage chunk."""
    start = time.perf_counter()
    first = 0.0
    tokens = 0
    async with posted(door, "/v1/chat/completions", body) as reader, aclosing(lines(reader)) as events:
        async for data in events:
            if not first and b'"content":"' in data and b'"content":""' not in data:
                first = time.perf_counter() - start
            if b'"usage":{' in data:
                tokens = json.loads(data)["usage"]["completion_tokens"]
    return Timed(first, time.perf_counter() - start, tokens)


async def stream_completion(door: Door, body: dict[str, Any]) -> Timed:
    """From the engine itself: its own streaming route with token ids."""
    start = time.perf_counter()
    first = 0.0
    tokens = 0
    async with posted(door, "/completion", body) as reader, aclosing(lines(reader)) as events:
        async for data in events:
            if not first and b'"content":""' not in data:
                first = time.perf_counter() - start
            if b'"stop":true' in data:
                tokens = json.loads(data)["tokens_predicted"]
    return Timed(first, time.perf_counter() - start, tokens)


async def ask(door: Door, path: str, body: Any) -> Any:
    """A whole JSON answer."""
    async with posted(door, path, body) as reader:
        raw = await reader.read()
    start, end = min(i for i in (raw.find(b"{"), raw.find(b"[")) if i >= 0), max(raw.rfind(b"}"), raw.rfind(b"]"))
    return json.loads(raw[start : end + 1])
