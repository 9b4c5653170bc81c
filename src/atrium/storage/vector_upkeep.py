"""What is done beside searches where pgvector is: moving vectors into it, building stores' indexes, dropping old ones.

One gateway at a time does it, under a lock that goes with its connection. Whatever is killed is done again: a store is
moved by one transaction, and an index whose building was broken off is dropped and built anew.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from atrium.core.events import Tell
from atrium.decisions.plan_indexes import START, Large, indexed_type, plan_indexes
from atrium.storage.database import LOCK_NUMBER, Database
from atrium.storage.pgvector import lies_here, numbers, table_there

UPKEEP_LOCK = LOCK_NUMBER + 2
ROUND_SECONDS = 300.0
"""Until it looks by itself, for what other gateways have put in."""
PAUSE_SECONDS = 5.0
"""Between rounds, however many documents come in."""
BATCH = 2000
KIB = 1024


class VectorUpkeep:
    """Owns the task that does it; `start` and `close` it."""

    def __init__(self, database: Database, exact_below: int, memory: int, tell: Tell) -> None:
        self._database = database
        self._exact_below = exact_below
        self._memory = memory
        """Bytes for building an index."""
        self._tell = tell
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._wanted.set()
        self._task = asyncio.create_task(self._work())

    def wake(self) -> None:
        """Stores have grown, or are gone."""
        self._wanted.set()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), ROUND_SECONDS)
            self._wanted.clear()
            try:
                await self.round()
            except Exception as error:  # noqa: BLE001 - a task's root: the next round may do better
                self._tell("stores.upkeep_failed", {"error": f"{type(error).__name__}: {error}"})
            await asyncio.sleep(PAUSE_SECONDS)

    async def round(self) -> None:
        """Do all that is to be done, unless another gateway is at it."""
        async with self.alone() as connection:
            if connection is None or not await table_there(connection):
                return
            for store_id in await self._unmoved(connection):
                await self._move(store_id)
            await self._index(connection)

    @asynccontextmanager
    async def alone(self) -> AsyncGenerator[AsyncConnection | None]:
        """A connection outside of any transaction: an index is built beside searches and changes only so.

        Nobody waits for the lock: whoever waits inside the database is waited for by the building of an index.
        """
        async with self._database.engine.connect() as plain:
            connection = await plain.execution_options(isolation_level="AUTOCOMMIT")
            query = text("select pg_try_advisory_lock(:n)")
            try:
                mine = (await connection.execute(query, {"n": UPKEEP_LOCK})).scalar_one()
                yield connection if mine else None
            finally:
                # The lock ends with the connection, and so does what was set for building.
                await connection.invalidate()

    # Moving.

    async def _unmoved(self, connection: AsyncConnection) -> list[str]:
        query = text(
            "select store from (select distinct store from documents.documents) as one"
            " where not exists (select from documents.vectors where store = one.store)"
            " and exists (select from documents.chunks where store = one.store)"
        )
        return [row.store for row in await connection.execute(query)]

    async def _move(self, store_id: str) -> None:
        """In one transaction, so that a search finds all of the store's vectors in one place."""
        read = text(
            "select id, document, vector from documents.chunks"
            " where store = :s and id > :after and vector is not null order by id limit :most"
        )
        write = text(
            "insert into documents.vectors (chunk, store, document, embedding)"
            " values (:chunk, :store, :document, cast(cast(:vector as real[]) as vector))"
        )
        moved, after = 0, 0
        async with self._database.writing() as connection:
            await connection.execute(text("select pg_advisory_xact_lock(hashtext(:s))"), {"s": store_id})
            if await lies_here(connection, store_id):
                return
            while rows := (await connection.execute(read, {"s": store_id, "after": after, "most": BATCH})).all():
                given = [
                    {"chunk": row.id, "store": store_id, "document": row.document, "vector": numbers(row.vector)}
                    for row in rows
                ]
                await connection.execute(write, given)
                moved, after = moved + len(rows), rows[-1].id
            query = text("update documents.chunks set vector = null where store = :s")
            await connection.execute(query, {"s": store_id})
        self._tell("stores.moved", {"store": store_id, "chunks": moved})

    # Indexes.

    async def _index(self, connection: AsyncConnection) -> None:
        plan = plan_indexes(await self._large(connection), await self._there(connection), self._exact_below)
        for name in plan.drop:
            await connection.execute(text(f'drop index concurrently if exists documents."{name}"'))
        if plan.build:
            await connection.execute(text(f"set maintenance_work_mem = '{max(self._memory // KIB, KIB)}kB'"))
            # Workers of its own would want shared memory, of which a container has little.
            await connection.execute(text("set max_parallel_maintenance_workers = 0"))
        for store in plan.build:
            await self._build(connection, store)

    async def _build(self, connection: AsyncConnection, store: Large) -> None:
        kind = indexed_type(store.dimensions)
        start = time.monotonic()
        query = (
            f'create index concurrently if not exists "{store.index}" on documents.vectors'
            f" using hnsw ((cast(embedding as {kind})) {(kind or '').partition('(')[0]}_ip_ops)"
            f" where store = '{store.store}'"
        )
        await connection.execute(text(query))
        # Else the database may hold the store for a small one, and go without the index.
        await connection.execute(text("analyze documents.vectors (store, document), documents.chunks (store, terms)"))
        seconds = round(time.monotonic() - start, 1)
        self._tell("stores.indexed", {"store": store.store, "chunks": store.chunks, "seconds": seconds})

    async def _large(self, connection: AsyncConnection) -> list[Large]:
        """Stores that have an index or should have one."""
        query = text(
            "select store, chunks,"
            " (select vector_dims(embedding) from documents.vectors where store = one.store limit 1) as dimensions"
            " from (select store, sum(chunks) as chunks from documents.documents group by store) as one"
            " where chunks * 2 >= :least"
        )
        rows = await connection.execute(query, {"least": self._exact_below})
        return [Large(row.store, int(row.chunks), row.dimensions) for row in rows if row.dimensions]

    async def _there(self, connection: AsyncConnection) -> dict[str, bool]:
        query = text(
            "select relname, indisvalid from pg_index join pg_class on pg_class.oid = indexrelid"
            " where indrelid = to_regclass('documents.vectors') and starts_with(relname, :start)"
        )
        return {row.relname: row.indisvalid for row in await connection.execute(query, {"start": START})}
