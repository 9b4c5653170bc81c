"""A fake endpoint for tests and trials: speaks OpenAI's and Ollama's wire, and misbehaves when a request asks it to.

    python -m atrium.engines.workers.fake_endpoint --port 9700 --kind ollama --models llama3.2:3b,phi3

A request's `X-Fake` header, or `[fake …]` in its text, names what goes wrong, or how it is paced: `status=503`,
`pace=20ms`, `chunks=50`, `slow=50ms`, `hang` (no response head), `hang-head` (half of one), `hang-body`, `reset`,
`close`, `half` (of a chunk), `short` (less than its content-length), `long` (more), `big-head`, `endless`, `garbage`,
`redirect`, `drip` (a head byte by byte without end), `type=text/html`, `gzip` (a packed body), `early` (an answer
before the request is here), `deaf` (reads no body until `/hear` is asked), `silent-close` (after the answer),
`interim`, `trailers`, `old` (HTTP/1.0), `empty` (no body), `apart` (the head, and a moment later the body), `broken`
(an error in mid stream), `measured` (a stream at once, with its length), `aloud` (thoughts stand in the answer). What
it was sent comes back under `/echo`, and what it answered last under `/last`. `/when?in_flight=1` answers once so many
requests are under way, `/when?hung_up=1` and `/when?received=1` once so many connections or bytes were. A tool is
called when the last message has the word `call`, thoughts come when they are asked for, and an answer has the shape it
was to have.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import hashlib
import itertools
import signal
import ssl
import sys
from contextlib import suppress
from typing import Any

import httptools
import orjson

from atrium.engines.workers.fake_answers import ALOUD, CREATED, OllamaWire, OpenAiWire, Piece, Wire, answer_of, shown
from atrium.engines.workers.fake_request import Reader, Request

MOST_REQUEST = 256 * 1024 * 1024
ENDLESS = b"x" * 16384
APART = 0.05
"""Seconds between a head and its body."""


class FakeEndpoint:
    def __init__(self, kind: str, models: list[str], *, v1: bool = True) -> None:
        self.kind = kind
        self.models = models
        self.v1 = v1
        """Whether OpenAI's paths are there; Ollama's are where the kind is `ollama`."""
        self.last: dict[str, Any] = {}
        """The request that was answered last."""
        self.asked = 0
        self.in_flight = 0
        self.cancelled = 0
        self.hung_up = 0
        self.received = 0
        """Bytes of bodies."""
        self.hearing = asyncio.Event()
        """Who is deaf hears again."""
        self.changed = asyncio.Condition()
        """Told whenever a request comes or goes, or a connection was closed."""

    async def when(self, wanted: dict[str, str]) -> None:
        """Waits until a count is what it is wanted to be."""

        def so() -> bool:
            if "in_flight" in wanted and self.in_flight - 1 != int(wanted["in_flight"]):
                return False
            grown = {"hung_up": self.hung_up, "received": self.received}
            return all(grown[name] >= int(wanted[name]) for name in grown if name in wanted)

        async with self.changed:
            await self.changed.wait_for(so)

    async def controlled(self, path: str, query: dict[str, str]) -> dict[str, Any]:
        """What tests steer by; it never misbehaves."""
        if path == "/last":
            return self.last
        if path == "/hear":
            self.hearing.set()
        if path == "/when":
            await self.when(query)
        told = {"asked": self.asked, "in_flight": self.in_flight - 1, "cancelled": self.cancelled}
        return told | {"hung_up": self.hung_up, "received": self.received}

    async def tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def next_request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request | None:
        """None at the connection's end."""
        parsing = Reader(self)
        request = parsing.request
        while not request.whole:
            data = await reader.read(65536)
            if not data:
                return None
            parsing.parser.feed_data(data)
            await self.tell()
            if request.begun and "early" in request.faults:
                break
            if request.begun and "deaf" in request.faults:
                writer.transport.pause_reading()  # type: ignore[attr-defined]
                await self.hearing.wait()
                writer.transport.resume_reading()  # type: ignore[attr-defined]
        return request

    async def hang_up(self, writer: asyncio.StreamWriter) -> None:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        self.hung_up += 1
        await self.tell()

    def change(self, path: str, model: str) -> None:
        if "/blobs/" in path:
            return
        self.models = [name for name in self.models if name != model]
        self.models += [model] if path == "/api/pull" else []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, request after request."""
        try:
            while (request := await self.next_request(reader, writer)) is not None:
                self.in_flight += 1
                await self.tell()
                try:
                    goes_on = await Answering(self, request, reader, writer).run()
                finally:
                    self.in_flight -= 1
                    await self.tell()
                if not goes_on:
                    await self.hang_up(writer)
                    return
        except (ConnectionError, httptools.HttpParserError):
            self.cancelled += 1
        finally:
            writer.close()


class Answering:
    def __init__(
        self, endpoint: FakeEndpoint, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.endpoint = endpoint
        self.request = request
        self.reader = reader
        self.writer = writer
        self.faults = request.faults

    async def run(self) -> bool:
        """False ends the connection."""
        path = self.request.url.partition(b"?")[0].decode("latin-1")
        if broken := next((name for name in BREAKS if name in self.faults), ""):
            await BREAKS[broken](self)
            return False
        if "status" in self.faults:
            status = int(self.faults["status"])
            await self.send(orjson.dumps({"error": {"message": f"fake {status}", "code": "fake"}}), status=status)
        elif not self.knows(path):
            await self.send(orjson.dumps({"error": "404 page not found"}), status=404)
        elif path in ("/", "/health", "/api/version"):
            await self.send(b"Ollama is running" if path == "/" else b'{"version":"0.13.0","status":"ok"}')
        elif (models := self.models(path)) is not None:
            await self.send(orjson.dumps(models))
        elif path in ("/counts", "/when", "/hear", "/last"):
            await self.send(orjson.dumps(await self.endpoint.controlled(path, self.request.query)))
        elif path.startswith(("/api/blobs/", "/api/pull", "/api/delete")):
            self.endpoint.change(path, self.model)
            await self.send(orjson.dumps({"status": "success", **self.weighed()}), status=200)
        elif path == "/echo" or self.request.method in ("PUT", "DELETE", "PATCH"):
            await self.send(orjson.dumps(self.told()))
        else:
            self.endpoint.asked += 1
            await self.answer(path)
        return "silent-close" not in self.faults

    def models(self, path: str) -> dict[str, Any] | None:
        """What a page about models shows; None where it is no such page."""
        names = self.endpoint.models
        if path.endswith(("/api/tags", "/api/ps")):
            return {"models": [self.tag(name) for name in names[: 1 if path.endswith("/ps") else None]]}
        if path.endswith("/models"):
            data = [{"id": n, "object": "model", "created": CREATED, "owned_by": "fake"} for n in names]
            return {"object": "list", "data": data}
        return shown() if path == "/api/show" else None

    @property
    def model(self) -> str:
        return str(orjson.loads(self.request.body).get("model", "")) if self.request.body.startswith(b"{") else ""

    def tag(self, name: str) -> dict[str, Any]:
        details = {"format": "gguf", "family": "fake", "parameter_size": "1B", "quantization_level": "Q4_0"}
        moment = "2026-01-01T00:00:00.123456789Z"
        return {
            "name": name,
            "model": name,
            "modified_at": moment,
            "size": 1000,
            "digest": "0" * 64,
            "details": details,
        }

    def weighed(self) -> dict[str, Any]:
        body = self.request.body
        return {"sha256": hashlib.sha256(body).hexdigest(), "length": len(body), "headers": self.request.headers}

    def told(self) -> dict[str, Any]:
        body = self.request.body.decode("utf-8", "replace")
        url = self.request.url.decode("latin-1")
        return {"method": self.request.method, "url": url, "headers": self.request.headers, "body": body}

    def knows(self, path: str) -> bool:
        if path.startswith("/v1/"):
            return self.endpoint.v1
        return not path.startswith("/api/") or self.endpoint.kind in ("ollama", "lmstudio")

    async def answer(self, path: str) -> None:
        asked: dict[str, Any] = {}
        if self.request.body.startswith(b"{"):
            asked = orjson.loads(self.request.body)
        self.endpoint.last = {"path": path, "headers": self.request.headers, "body": asked}
        wire: Wire = OllamaWire(path, asked) if path.startswith("/api/") else OpenAiWire(path, asked)
        if "embed" in path:
            await self.send(orjson.dumps(wire.vectors()))
            return
        words = [f"word{i} " for i in range(int(self.faults.get("chunks", "5")))]
        pieces = [*(ALOUD if "aloud" in self.faults else ()), *answer_of(asked, words)]
        if asked.get("stream", wire.streams):
            await self.stream(wire, pieces)
        else:
            await self.send(orjson.dumps(wire.whole(pieces)))

    async def stream(self, wire: Wire, pieces: list[Piece]) -> None:
        if "measured" in self.faults:
            chunks = [wire.chunk(piece, last=piece is pieces[-1]) for piece in pieces]
            await self.send(b"".join([*chunks, wire.end(pieces)]))
            return
        kind = self.faults.get("type", wire.media_type)
        self.head(200, f"content-type: {kind}\r\ntransfer-encoding: chunked\r\n")
        pace = float(self.faults.get("pace", "0ms").removesuffix("ms")) / 1000
        for index, piece in enumerate(pieces):
            self.chunk(wire.chunk(piece, last=index == len(pieces) - 1))
            await self.writer.drain()
            if pace:
                await asyncio.sleep(pace)
            if "broken" in self.faults:
                self.chunk(wire.failure("it broke"))
                return
        self.chunk(wire.end(pieces))
        self.writer.write(b"0\r\n" + (b"X-Own: 1\r\n" if "trailers" in self.faults else b"") + b"\r\n")
        await self.writer.drain()

    async def send(self, body: bytes, *, status: int = 200) -> None:
        """With a head that differs from answer to answer, as real ones do."""
        extra = "retry-after: 7\r\n" if status == 429 else ""
        if "gzip" in self.faults:
            body, extra = gzip.compress(body), f"{extra}content-encoding: gzip\r\n"
        if "interim" in self.faults:
            self.writer.write(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n")
        if "slow" in self.faults:
            await asyncio.sleep(float(self.faults["slow"].removesuffix("ms")) / 1000)
        body = b"" if "empty" in self.faults else body
        kind = self.faults.get("type", "application/json")
        lines = f"content-type: {kind}\r\ncontent-length: {len(body)}\r\n{extra}"
        body = b"" if self.request.method == "HEAD" else body
        if "apart" in self.faults:
            self.head(status, lines)
            await asyncio.sleep(APART)
            self.writer.write(body)
        else:
            self.head(status, lines, body)
        await self.writer.drain()

    def head(self, status: int, lines: str, body: bytes = b"") -> None:
        number = next(NUMBERS)
        version = "1.0" if "old" in self.faults else "1.1"
        own = f"HTTP/{version} {status} Fine\r\nx-number: {number}\r\nset-cookie: a=b\r\nx-olla-endpoint: liar\r\n"
        self.writer.write(f"{own}connection: x-hop, keep-alive\r\nx-hop: 1\r\n{lines}\r\n".encode() + body)

    def chunk(self, data: bytes) -> None:
        self.writer.write(b"%x\r\n%b\r\n" % (len(data), data))

    # What can go wrong.

    async def early(self) -> None:
        """Before the request is here."""
        self.head(413, "content-length: 9\r\nconnection: close\r\n")
        self.writer.write(b"too large")
        await self.writer.drain()

    async def hang(self) -> None:
        """Until the other side has closed."""
        await self.reader.read()

    async def hang_head(self) -> None:
        self.writer.write(b"HTTP/1.1 200 OK\r\ncontent-ty")
        await self.hang()

    async def drip(self) -> None:
        self.writer.write(b"HTTP/1.1 200 OK\r\nx-slow: ")
        while not self.reader.at_eof():
            self.writer.write(b"y")
            await self.writer.drain()
            await asyncio.sleep(0.05)

    async def hang_body(self) -> None:
        self.head(200, "transfer-encoding: chunked\r\n")
        self.chunk(b"data: one\n\n")
        await self.hang()

    async def reset(self) -> None:
        self.writer.transport.abort()

    async def close(self) -> None:
        self.writer.close()

    async def half(self) -> None:
        self.head(200, "content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n")
        self.chunk(b"data: one\n\n")
        self.writer.write(b"20\r\ndata: tw")
        await self.writer.drain()

    async def short(self) -> None:
        self.head(200, "content-length: 100\r\n")
        self.writer.write(b"only this")
        await self.writer.drain()

    async def long(self) -> None:
        self.head(200, "content-length: 4\r\n")
        self.writer.write(b"fourHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nstolen")
        await self.writer.drain()

    async def big_head(self) -> None:
        self.writer.write(b"HTTP/1.1 200 OK\r\n" + b"".join(b"x-%d: %b\r\n" % (i, b"y" * 1000) for i in range(1024)))
        self.writer.write(b"content-length: 0\r\n\r\n")
        await self.writer.drain()

    async def endless(self) -> None:
        self.head(200, "transfer-encoding: chunked\r\n")
        while True:
            self.chunk(ENDLESS)
            await self.writer.drain()

    async def garbage(self) -> None:
        self.writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n\r\n")
        await self.writer.drain()

    async def redirect(self) -> None:
        self.head(302, "location: http://127.0.0.1:1/elsewhere\r\ncontent-length: 0\r\n")
        await self.writer.drain()


BREAKS = {
    "early": Answering.early,
    "hang": Answering.hang,
    "hang-head": Answering.hang_head,
    "drip": Answering.drip,
    "hang-body": Answering.hang_body,
    "reset": Answering.reset,
    "close": Answering.close,
    "half": Answering.half,
    "short": Answering.short,
    "long": Answering.long,
    "big-head": Answering.big_head,
    "endless": Answering.endless,
    "garbage": Answering.garbage,
    "redirect": Answering.redirect,
}
NUMBERS = itertools.count(1)


async def main() -> None:
    parser = argparse.ArgumentParser(prog="fake_endpoint")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--kind", default="openai")
    parser.add_argument("--models", default="m1")
    parser.add_argument("--without-v1", action="store_true", help="Ollama's own API only")
    parser.add_argument("--cert", help="PEM file with certificate and key: speak HTTPS")
    told = parser.parse_args()
    secured = None
    if told.cert:
        secured = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        secured.load_cert_chain(told.cert)
    endpoint = FakeEndpoint(told.kind, told.models.split(","), v1=not told.without_v1)
    server = await asyncio.start_server(
        endpoint.serve, "127.0.0.1", told.port, limit=MOST_REQUEST, backlog=1024, ssl=secured
    )
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    stopped = asyncio.Event()
    for one in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(one, stopped.set)
    await stopped.wait()


if __name__ == "__main__":
    asyncio.run(main())
