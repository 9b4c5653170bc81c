"""A store of 100,000 chunks: the time of a query, recall against a plain product, and what it costs in memory."""

from __future__ import annotations

import statistics
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from sqlalchemy import text
from tests.postgres import pgvector

from atrium.core.document_ports import Shelf
from atrium.core.documents import Chunk, Document, Indexed, Parsed, Status
from atrium.storage.database import open_database
from atrium.storage.postgres_shelf import PostgresBounds, PostgresShelf
from atrium.storage.store_files import ShelfBounds, StoreFiles

CHUNKS, DIMENSIONS, PER_DOCUMENT = 100_000, 384, 500
TOPICS, QUERIES, TOP = 500, 100, 10
EXACT_BELOW = 10_000
MIB = 1024 * 1024
Rows = list[tuple[str, str, str]]


def vectors() -> Any:
    """Unit vectors around some hundred topics, as texts have them."""
    chance = np.random.default_rng(1)
    topics = chance.normal(size=(TOPICS, DIMENSIONS))
    made = topics[chance.integers(0, TOPICS, CHUNKS)] + 0.9 * chance.normal(size=(CHUNKS, DIMENSIONS))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype("<f4")


async def fill(shelf: Shelf, store: str, made: Any) -> None:
    for first in range(0, CHUNKS, PER_DOCUMENT):
        texts = [f"chunk {first + n} of topic {n % 97}" for n in range(PER_DOCUMENT)]
        chunks = tuple(Chunk(0, len(one), one) for one in texts)
        document = Document(
            str(uuid.uuid4()), store, f"{first}.txt", 1, "", datetime.now(UTC), {}, Status.INDEXED, len(texts)
        )
        rows = tuple(row.tobytes() for row in made[first : first + PER_DOCUMENT])
        await shelf.put(Indexed(document, Parsed(""), chunks, rows))


async def file_rows(folder: Path) -> Rows:
    """In a file of its own, as where no PostgreSQL is."""
    made, store = vectors(), str(uuid.uuid4())
    bounds = ShelfBounds(open_files=8, vector_memory=512 * MIB)
    filled = StoreFiles(folder, bounds)
    await fill(filled, store, made)
    await filled.close()
    shelf = StoreFiles(folder, bounds)
    rows = await measured(shelf, store, made)
    await shelf.close()
    return rows


async def pgvector_rows(folder: Path) -> Rows:
    """In a PostgreSQL that has pgvector: exact before there is an index, then by the index."""
    made, store = vectors(), str(uuid.uuid4())
    told: dict[str, object] = {}
    with pgvector() as url:
        database = await open_database(url, folder / "unused")
        shelf = PostgresShelf(database, PostgresBounds(512 * MIB, EXACT_BELOW), lambda _, fields: told.update(fields))
        await database_ready(shelf)
        start = time.perf_counter()
        await fill(shelf, store, made)
        filling = time.perf_counter() - start
        exact = statistics.median(await times(shelf, store, made, 20))
        await shelf.upkeep.round()
        rows = await measured(shelf, store, made)
        size = text(
            "select sum(pg_relation_size(indexrelid)) from pg_stat_user_indexes where indexrelname like 'near%'"
        )
        async with database.reading() as connection:
            index = int((await connection.execute(size)).scalar_one()) / MIB
        await shelf.close()
        await database.close()
    return [
        *rows,
        ("query by vector before there is an index, p50", f"{exact * 1000:.0f} ms", ""),
        ("putting them in", f"{CHUNKS / filling:.0f} chunks/s", ""),
        ("building the index", f"{told['seconds']} s, {index:.0f} MiB on disk", ""),
    ]


async def database_ready(shelf: PostgresShelf) -> None:
    """Opened, without the task that would build the index while it is filled."""
    await shelf.open()
    await shelf.upkeep.close()


def questions(made: Any, number: int) -> Iterator[Any]:
    """Unit vectors near some that are there."""
    chance = np.random.default_rng(2)
    for _ in range(number):
        asked = made[chance.integers(CHUNKS)] + 0.03 * chance.normal(size=DIMENSIONS)
        yield (asked / np.linalg.norm(asked)).astype("<f4")


async def times(shelf: Shelf, store: str, made: Any, number: int) -> list[float]:
    """Seconds of each query."""
    taken: list[float] = []
    for asked in questions(made, number):
        start = time.perf_counter()
        near = await shelf.nearest(store, asked.tobytes(), TOP, {})
        await shelf.found(store, [one.chunk_id for one in near], asked.tobytes())
        taken.append(time.perf_counter() - start)
    return taken


async def recalled(shelf: Shelf, store: str, made: Any) -> float:
    """The share of the nearest that are found. Chunks have the numbers in which they were put in."""
    kept = 0
    for asked in questions(made, QUERIES):
        near = await shelf.nearest(store, asked.tobytes(), TOP, {})
        exact = {int(place) + 1 for place in np.argsort(-(made @ asked))[:TOP]}
        kept += len(exact & {one.chunk_id for one in near})
    return kept / QUERIES / TOP


async def measured(shelf: Shelf, store: str, made: Any) -> Rows:
    before = psutil.Process().memory_info().rss
    first, *others = await times(shelf, store, made, QUERIES)
    grown = (psutil.Process().memory_info().rss - before) / MIB
    words: list[float] = []
    for number in range(20):
        start = time.perf_counter()
        await shelf.matching(store, [f"{number * 31}", "topic", "chunk"], TOP, {})
        words.append(time.perf_counter() - start)
    recall = await recalled(shelf, store, made)
    return [
        ("query by vector, p50", f"{statistics.median(others) * 1000:.1f} ms", "≤ 30 ms"),
        ("query by vector, p95", f"{sorted(others)[int(len(others) * 0.95)] * 1000:.1f} ms", ""),
        ("first query after opening", f"{first * 1000:.0f} ms", ""),
        ("query by words, p50", f"{statistics.median(words) * 1000:.1f} ms", ""),
        ("recall@10 against exact", f"{recall:.4f}", "≥ 0.99"),
        ("growth of memory", f"{grown:.0f} MiB", "≤ 200 MiB"),
    ]
