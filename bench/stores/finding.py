"""A store of 100,000 chunks: the time of a query, recall against a plain product, and what it costs in memory."""

from __future__ import annotations

import statistics
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from atrium.core.documents import Chunk, Document, Indexed, Parsed, Status
from atrium.storage.store_files import ShelfBounds, StoreFiles

CHUNKS, DIMENSIONS, PER_DOCUMENT = 100_000, 384, 500
TOPICS, QUERIES, TOP = 500, 100, 10
MIB = 1024 * 1024


def vectors() -> Any:
    """Unit vectors around some hundred topics, as texts have them."""
    chance = np.random.default_rng(1)
    topics = chance.normal(size=(TOPICS, DIMENSIONS))
    made = topics[chance.integers(0, TOPICS, CHUNKS)] + 0.9 * chance.normal(size=(CHUNKS, DIMENSIONS))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype("<f4")


async def fill(shelf: StoreFiles, store: str, made: Any) -> None:
    for first in range(0, CHUNKS, PER_DOCUMENT):
        texts = [f"chunk {first + n} of topic {n % 97}" for n in range(PER_DOCUMENT)]
        chunks = tuple(Chunk(0, len(text), text) for text in texts)
        document = Document(
            str(uuid.uuid4()), store, f"{first}.txt", 1, "", datetime.now(UTC), {}, Status.INDEXED, len(texts)
        )
        rows = tuple(row.tobytes() for row in made[first : first + PER_DOCUMENT])
        await shelf.put(Indexed(document, Parsed(""), chunks, rows))


async def search_rows(folder: Path) -> list[tuple[str, str, str]]:
    made, store = vectors(), str(uuid.uuid4())
    bounds = ShelfBounds(open_files=8, vector_memory=512 * MIB)
    filled = StoreFiles(folder, bounds)
    await fill(filled, store, made)
    await filled.close()
    shelf = StoreFiles(folder, bounds)
    before = psutil.Process().memory_info().rss
    chance = np.random.default_rng(2)
    times: list[float] = []
    kept = 0
    first = 0.0
    for number in range(QUERIES):
        asked = made[chance.integers(CHUNKS)] + 0.03 * chance.normal(size=DIMENSIONS)
        asked = (asked / np.linalg.norm(asked)).astype("<f4")
        start = time.perf_counter()
        near = await shelf.nearest(store, asked.tobytes(), TOP, {})
        await shelf.found(store, [one.chunk_id for one in near], asked.tobytes())
        took = time.perf_counter() - start
        if number == 0:
            first = took
        else:
            times.append(took)
        exact = {int(place) + 1 for place in np.argsort(-(made @ asked))[:TOP]}
        kept += len(exact & {one.chunk_id for one in near})
    grown = (psutil.Process().memory_info().rss - before) / MIB
    words: list[float] = []
    for number in range(20):
        start = time.perf_counter()
        await shelf.matching(store, [f"{number * 31}", "topic", "chunk"], TOP, {})
        words.append(time.perf_counter() - start)
    await shelf.close()
    return [
        ("query by vector, p50", f"{statistics.median(times) * 1000:.1f} ms", "≤ 30 ms"),
        ("query by vector, p95", f"{sorted(times)[int(len(times) * 0.95)] * 1000:.1f} ms", ""),
        ("first query after opening", f"{first * 1000:.0f} ms", ""),
        ("query by words, p50", f"{statistics.median(words) * 1000:.1f} ms", ""),
        ("recall@10 against exact", f"{kept / QUERIES / TOP:.4f}", "≥ 0.99"),
        ("growth of memory", f"{grown:.0f} MiB", "≤ 200 MiB"),
    ]
