"""A model that invents its answers, on the wire of llama.cpp's server: `python -m atrium.engines.workers.fake`.

The control routes `GET /health`, `/slots` and `/fake` never misbehave; `/fake` counts answers in flight.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from atrium.core.requests import JsonValue
from atrium.decisions.fake_address import FakeAddress, FaultKind, parse_fake
from atrium.engines.workers import fake_wire as wire
from atrium.engines.workers.fake_grammar import forced_tokens
from atrium.engines.workers.fake_speech import Piece, Wish, bytes_of, speak, tokens_of, vector_of
from atrium.engines.workers.fake_wire import Json, RequestError, write_event, write_json
from atrium.engines.workers.parent import end_with_parent, worker_arguments

MOST_HEAD = 64 * 1024
CRASHED = 70
Route = Callable[[Json, asyncio.StreamWriter], Awaitable[None]]


class Options(Protocol):
    socket: str
    parent: int
    address: str
    slots: int


@dataclass(slots=True)
class Fake:
    told: FakeAddress
    slots: asyncio.Queue[int]
    """Numbers of those that are free."""
    ready: bool = False
    in_flight: int = 0
    peak: int = 0
    served: int = 0
    taken: list[bytes] = field(default_factory=list[bytes])
    """Memory that it was told to take."""

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection is one request; a client that leaves ends its answer."""
        try:
            method, path, body = await wire.read_request(reader)
            answer = asyncio.create_task(self.answer(method, path, body, writer))
            left = asyncio.create_task(reader.read(1))
            await asyncio.wait({answer, left}, return_when=asyncio.FIRST_COMPLETED)
            answer.cancel()
            left.cancel()
            await asyncio.wait({answer, left})
            if not answer.cancelled() and (failed := answer.exception()) and not isinstance(failed, OSError):
                raise failed
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as bad:
            sys.stderr.write(f"connection: {bad}\n")
        finally:
            writer.close()

    async def answer(self, method: str, path: str, raw: bytes, writer: asyncio.StreamWriter) -> None:
        try:
            route = self.route(method, path)
            await route(wire.read_object(raw) if method == "POST" else {}, writer)
        except RequestError as wrong:
            await write_json(writer, wrong.body, status=wrong.status)

    def route(self, method: str, path: str) -> Route:
        routes: dict[tuple[str, str], Route] = {
            ("GET", "/health"): self.health,
            ("GET", "/slots"): self.list_slots,
            ("GET", "/fake"): self.count,
            ("POST", "/tokenize"): self.tokenize,
            ("POST", "/detokenize"): self.detokenize,
            ("POST", "/completion"): self.complete,
            ("POST", "/embedding"): self.embed,
            ("POST", "/embeddings"): self.embed,
            ("POST", "/v1/embeddings"): self.embed_openai,
        }
        if (method, path) not in routes:
            raise RequestError("File Not Found", status=404, kind="not_found_error")
        if not self.ready:
            raise RequestError("Loading model", status=503, kind="unavailable_error")
        return routes[method, path]

    async def health(self, _: Json, writer: asyncio.StreamWriter) -> None:
        await write_json(writer, {"status": "ok"})

    async def list_slots(self, _: Json, writer: asyncio.StreamWriter) -> None:
        busy = self.in_flight
        slots: list[JsonValue] = [
            {"id": i, "n_ctx": self.told.context, "is_processing": i < busy} for i in range(self.slots.maxsize)
        ]
        await write_json(writer, slots)

    async def count(self, _: Json, writer: asyncio.StreamWriter) -> None:
        await write_json(writer, {"in_flight": self.in_flight, "peak": self.peak, "served": self.served})

    async def tokenize(self, asked: Json, writer: asyncio.StreamWriter) -> None:
        ids = tokens_of(asked.get("content"), special=asked.get("parse_special", True) is True)
        await write_json(writer, {"tokens": list[JsonValue](ids)})

    async def detokenize(self, asked: Json, writer: asyncio.StreamWriter) -> None:
        ids = tokens_of(asked.get("tokens"), special=False)
        await write_json(writer, {"content": b"".join(map(bytes_of, ids)).decode("utf-8", "replace")})

    async def embed(self, asked: Json, writer: asyncio.StreamWriter) -> None:
        inputs = wire.read_inputs(asked.get("content", asked.get("input")))
        await asyncio.sleep(self.told.pace * len(inputs))
        await self.misbehave(0, writer)
        rows: list[JsonValue] = [
            {"index": i, "embedding": [list[JsonValue](vector_of(ids))]} for i, ids in enumerate(inputs)
        ]
        await write_json(writer, rows)

    async def embed_openai(self, asked: Json, writer: asyncio.StreamWriter) -> None:
        inputs = wire.read_inputs(asked.get("input"))
        await asyncio.sleep(self.told.pace * len(inputs))
        await self.misbehave(0, writer)
        packed = asked.get("encoding_format") == "base64"
        data: list[JsonValue] = []
        for index, ids in enumerate(inputs):
            vector = vector_of(ids)
            raw = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
            shown: JsonValue = raw if packed else list[JsonValue](vector)
            data.append({"embedding": shown, "index": index, "object": "embedding"})
        count = sum(len(ids) for ids in inputs)
        usage: Json = {"prompt_tokens": count, "total_tokens": count}
        await write_json(writer, {"model": self.told.name, "object": "list", "usage": usage, "data": data})

    async def complete(self, asked: Json, writer: asyncio.StreamWriter) -> None:
        grammar = asked.get("grammar")
        forced = forced_tokens(grammar) if isinstance(grammar, str) and grammar else None
        wish = wire.read_wish(asked, window=self.told.context, words=self.told.words, forced=forced)
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            slot = await self.slots.get()
            try:
                await self.generate(asked, wish, slot, writer)
            finally:
                self.slots.put_nowait(slot)
        finally:
            self.in_flight -= 1
            self.served += 1
            self.take(self.told.grows)

    def take(self, size: int) -> None:
        """Bytes that are not zero, or the kernel would only promise them."""
        if size:
            self.taken.append(b"a" * size)

    async def generate(self, asked: Json, wish: Wish, slot: int, writer: asyncio.StreamWriter) -> None:
        await self.misbehave(0, writer)
        begun = time.monotonic()
        streams = asked.get("stream") is True
        said: list[str] = []
        last = Piece(0, "", ending="limit")
        for last in speak(wish):
            await asyncio.sleep(self.told.pace)
            if streams and not said:
                wire.begin_events(writer)
            said.append(last.text)
            if streams:
                await write_event(writer, wire.token_event(asked, wish, last, len(said)))
                await self.misbehave(len(said), writer)
        seconds = time.monotonic() - begun
        final = wire.last_event(wish, last, len(said), model=self.told.name, slot=slot, seconds=seconds)
        if streams:
            await write_event(writer, wire.trimmed(asked, final))
            wire.write_chunk(writer, b"")
            await writer.drain()
        else:
            await write_json(writer, {**final, "content": "".join(said)})

    async def misbehave(self, after: int, writer: asyncio.StreamWriter) -> None:
        for fault in self.told.faults:
            if fault.after != after:
                continue
            match fault.kind:
                case FaultKind.CRASH:
                    end_now(f"told to crash after {after} tokens")
                case FaultKind.HANG:
                    await asyncio.get_running_loop().create_future()
                case FaultKind.DROP:
                    writer.close()
                    raise ConnectionAbortedError
                case FaultKind.NONSENSE:
                    wire.write_chunk(writer, wire.NONSENSE)
                case FaultKind.CRASH_ON_LOAD:
                    pass


def end_now(why: str) -> None:
    sys.stderr.write(f"fatal: {why}\n")
    sys.stderr.flush()
    os._exit(CRASHED)


def options() -> Options:
    parser = worker_arguments()
    parser.add_argument("--address", required=True)
    parser.add_argument("--slots", required=True, type=int)
    told = argparse.Namespace()
    parser.parse_args(namespace=told)
    return told  # pyright: ignore[reportReturnType] - a Namespace has whatever the parser put into it


async def serve(socket: str, told: FakeAddress, slots: int) -> None:
    free = asyncio.Queue[int](slots)
    for slot in range(slots):
        free.put_nowait(slot)
    fake = Fake(told, free)
    fake.take(told.takes * slots)
    server = await asyncio.start_unix_server(fake.connected, socket, limit=MOST_HEAD)
    await asyncio.sleep(told.load)
    if any(fault.kind is FaultKind.CRASH_ON_LOAD for fault in told.faults):
        end_now("told to crash while loading")
    fake.ready = True
    await server.serve_forever()


def main() -> None:
    told = options()
    end_with_parent(told.parent)
    asyncio.run(serve(told.socket, parse_fake(told.address), told.slots))


if __name__ == "__main__":
    main()
