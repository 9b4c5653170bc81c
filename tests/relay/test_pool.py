"""Connections that are kept for the next request, within bounds of number and age."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from atrium.core.endpoints import EndpointSpec
from atrium.core.kinds import KINDS
from atrium.relay.ask import asked
from atrium.relay.pool import Pool, PoolBounds
from atrium.relay.upstream import Upstream

REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
KEPT = 60.0


@asynccontextmanager
async def endpoint(*, idle: int) -> AsyncGenerator[tuple[Pool, asyncio.Semaphore]]:
    """A pool before a server that answers each request, and how many of its connections have ended."""
    ended = asyncio.Semaphore(0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
        ended.release()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        spec = EndpointSpec("one", KINDS["openai"], "127.0.0.1", server.sockets[0].getsockname()[1], tls=False, base="")
        pool = Pool(spec, PoolBounds(connect=5, keep_alive=KEPT, idle=idle, head=65536))
        yield pool, ended
        pool.close()


async def used(*connections: Upstream) -> None:
    for one in connections:
        assert (await asked(one, REQUEST, b"")).body == b"ok"


async def test_of_many_connections_so_many_are_kept_and_the_rest_are_closed() -> None:
    async with asyncio.timeout(10), endpoint(idle=2) as (pool, ended):
        first, second, third = [await pool.connect() for _ in range(3)]
        await used(first, second, third)
        await ended.acquire()
        now = time.monotonic()
        assert [pool.take(now), pool.take(now), pool.take(now)] == [second, first, None]


async def test_one_that_was_idle_for_too_long_is_not_used_again() -> None:
    async with asyncio.timeout(10), endpoint(idle=2) as (pool, ended):
        one, other = await pool.connect(), await pool.connect()
        await used(one, other)
        assert pool.take(time.monotonic() + KEPT + 1) is None
        await ended.acquire()
        await ended.acquire()
        third = await pool.connect()
        await used(third)
        pool.close_unused(time.monotonic())
        assert pool.take(time.monotonic()) is third
        await used(third)
        pool.close_unused(time.monotonic() + KEPT + 1)
        await ended.acquire()
