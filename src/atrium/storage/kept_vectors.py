"""Vectors of stores in a PostgreSQL without pgvector: kept as bytes, searched exactly in this gateway's memory.

Documents are rows that never change, so what is in memory is brought up to date by comparing their ids. A store that
does not fit is read through for each query.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from sqlalchemy import text

from atrium.core.documents import Scored
from atrium.storage.database import Database
from atrium.storage.vector_blocks import FLOAT, FULL, Row, VectorBlocks


class Kept:
    """A store's vectors in memory, and of which documents they are."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.mark: tuple[int, int] = (0, 0)
        self.documents: set[int] = set()
        self.blocks: VectorBlocks | None = None


class KeptVectors:
    def __init__(self, database: Database, most: int) -> None:
        self._database = database
        self._most = most
        """Bytes, all stores together."""
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        """Least recently used first."""

    def forget(self, store_id: str) -> None:
        self._kept.pop(store_id, None)

    def clear(self) -> None:
        self._kept.clear()

    async def nearest(
        self, store_id: str, vector: bytes, most: int, documents: Sequence[int] | None
    ) -> tuple[Scored, ...]:
        """By cosine to a unit vector, exact; of these documents only, where they are given."""
        size = await self._chunks(store_id) * len(vector)
        if size <= self._most:
            blocks = await self._up_to_date(store_id, len(vector) // FLOAT, size)
            return await asyncio.to_thread(blocks.nearest, vector, most, documents)
        best: list[Scored] = []
        async for rows in self._batches("store = :s", len(vector), s=store_id):
            blocks = VectorBlocks(len(vector) // FLOAT)
            blocks.add(rows)
            best += await asyncio.to_thread(blocks.nearest, vector, most, documents)
            best = sorted(best, key=lambda one: (-one.score, one.chunk_id))[:most]
        return tuple(best)

    async def _chunks(self, store_id: str) -> int:
        query = text("select coalesce(sum(chunks), 0) from documents.documents where store = :s")
        async with self._database.reading() as connection:
            return int((await connection.execute(query, {"s": store_id})).scalar_one())

    async def _up_to_date(self, store_id: str, dimensions: int, size: int) -> VectorBlocks:
        """The store's vectors in memory as the database has them now."""
        kept = self._kept.setdefault(store_id, Kept())
        self._kept.move_to_end(store_id)
        async with kept.lock:
            query = text(
                "select count(*) as many, coalesce(max(id), 0) as newest from documents.documents where store = :s"
            )
            async with self._database.reading() as connection:
                row = (await connection.execute(query, {"s": store_id})).one()
            mark = int(row.many), int(row.newest)
            if kept.blocks is None:
                self._make_room(size, store_id)
                kept.blocks = await asyncio.to_thread(VectorBlocks, dimensions)
            if kept.mark != mark:
                try:
                    await self._bring(store_id, kept, kept.blocks, dimensions)
                except BaseException:
                    # A part of it is there, and a thread that was left alone may add more.
                    kept.blocks, kept.documents, kept.mark = None, set(), (0, 0)
                    raise
                kept.mark = mark
            return kept.blocks

    async def _bring(self, store_id: str, kept: Kept, blocks: VectorBlocks, dimensions: int) -> None:
        """What is gone out of memory, and what is new into it."""
        ids = text("select id from documents.documents where store = :s")
        async with self._database.reading() as connection:
            there = {row.id for row in await connection.execute(ids, {"s": store_id})}
        await asyncio.to_thread(blocks.remove, sorted(kept.documents - there))
        new = sorted(there - kept.documents)
        async for batch in self._batches("document = any(cast(:d as bigint[]))", dimensions * FLOAT, d=new):
            await asyncio.to_thread(blocks.add, batch)
        kept.documents = there

    def _make_room(self, needed: int, store_id: str) -> None:
        """The least recently used stores give up what they keep."""
        used = sum(one.blocks.size for one in self._kept.values() if one.blocks)
        for other in [one for one in self._kept if one != store_id]:
            if used + needed <= self._most:
                return
            blocks = self._kept.pop(other).blocks
            used -= blocks.size if blocks else 0

    async def _batches(self, which: str, size: int, **given: Any) -> AsyncGenerator[list[Row]]:
        """Vectors of `size` bytes, some thousand at a time."""
        query = text(f"select id, document, vector from documents.chunks where {which} and length(vector) = :size")  # noqa: S608 - ours
        async with self._database.reading() as connection:
            result = await connection.stream(query, {**given, "size": size})
            async for rows in result.partitions(FULL):
                yield [Row(row.id, row.document, row.vector) for row in rows]
