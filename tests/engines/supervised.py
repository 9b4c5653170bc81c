"""A supervisor as `app.py` builds it, its events to wait for, and a client that asks its runners directly."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from atrium.core.people import Caller
from atrium.engines.bounds import Bounds, Folders
from atrium.engines.placement.local import LocalPlacement, child_environment
from atrium.engines.recipes.fake import FakeRecipe
from atrium.engines.recipes.llamacpp import LlamaCppRecipe, installed_version
from atrium.engines.supervisor import Supervisor

MIB = 1024 * 1024
ANNA = Caller(user_id=1, name="anna")
BERT = Caller(user_id=2, name="bert")
PATIENCE = 60.0
ENGINE = installed_version()
BOUNDS = Bounds(
    memory=4096 * MIB,
    reserve=64 * MIB,
    keep_alive=600.0,
    load_timeout=60.0,
    hang_timeout=60.0,
    queue=64,
    queue_timeout=60.0,
)


@dataclass
class Told:
    """Events in the order they came."""

    events: list[tuple[str, Mapping[str, object]]] = field(default_factory=list[tuple[str, Mapping[str, object]]])
    came: asyncio.Event = field(default_factory=asyncio.Event)
    also: dict[str, Callable[[], None]] = field(default_factory=dict[str, Callable[[], None]])
    """What to do besides, in the very moment when an event of that name is told."""

    def __call__(self, name: str, fields: Mapping[str, object]) -> None:
        self.events.append((name, fields))
        if name in self.also:
            self.also[name]()
        self.came.set()

    def count(self, name: str) -> int:
        return len(self.all(name))

    def all(self, name: str) -> list[Mapping[str, object]]:
        return [fields for known, fields in self.events if known == name]

    async def heard(self, name: str, times: int = 1) -> Mapping[str, object]:
        """Wait until an event came so many times; its last fields."""
        async with asyncio.timeout(PATIENCE):
            while self.count(name) < times:
                self.came.clear()
                await self.came.wait()
        return self.all(name)[times - 1]


@asynccontextmanager
async def supervised(
    folder: Path, *, slots: int = 2, left: Callable[[], int] = lambda: 64 * 1024 * MIB, **changes: float
) -> AsyncGenerator[tuple[Supervisor, Told]]:
    """`left` tells how much memory the machine has left."""
    told = Told()
    threads = min(2, os.cpu_count() or 1)
    llamacpp = LlamaCppRecipe(slots, context=512, threads=threads, prompt_cache=16 * MIB, engine_version=ENGINE)
    supervisor = Supervisor(
        {"fake": FakeRecipe(slots), "llamacpp": llamacpp},
        LocalPlacement(child_environment(os.environ), left),
        replace(BOUNDS, **changes),
        Folders(run=folder / "run", logs=folder / "logs", seen=folder / "memory.json"),
        told,
    )
    async with supervisor:
        yield supervisor, told


@asynccontextmanager
async def asked(socket: str, path: str, body: Any = None) -> AsyncGenerator[asyncio.StreamReader]:
    """The answer's reader, placed after its head."""
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_unix_connection(socket)
        try:
            raw = b"" if body is None else json.dumps(body).encode()
            head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nHost: runner\r\nConnection: close\r\n"
            writer.write(f"{head}Content-Length: {len(raw)}\r\n\r\n".encode() + raw)
            status = await reader.readuntil(b"\r\n\r\n")
            assert status.startswith(b"HTTP/1.1 200"), status + await reader.read()
            yield reader
        finally:
            writer.close()


async def ask(socket: str, path: str, body: Any = None) -> Any:
    async with asked(socket, path, body) as reader:
        return json.loads(await reader.read())


async def stream(socket: str, prompt: list[int], most: int, **more: Any) -> AsyncGenerator[dict[str, Any]]:
    """Events of one completion; raises when the stream breaks before its last one."""
    wish = {"prompt": prompt, "n_predict": most, "stream": True, "temperature": 0, **more}
    async with asked(socket, "/completion", wish) as reader:
        while line := await reader.readline():
            if line.startswith(b"data: "):
                event = json.loads(line.removeprefix(b"data: "))
                yield event
                if event["stop"]:
                    return
    raise EOFError("the stream broke")


async def complete(socket: str, prompt: list[int], most: int, **more: Any) -> str:
    async with aclosing(stream(socket, prompt, most, **more)) as events:
        return "".join([event["content"] async for event in events])
