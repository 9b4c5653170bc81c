"""What every shelf of stores must do: the same suite on files, on PostgreSQL as it is, and on one with pgvector."""

from __future__ import annotations

import asyncio
import random
import struct
import uuid
from collections.abc import AsyncGenerator, Generator, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from atrium.core.document_ports import Shelf
from atrium.core.documents import Indexed, Status, Tally
from atrium.core.errors import Conflict
from atrium.core.events import nobody_hears
from atrium.storage.database import open_database
from atrium.storage.postgres_shelf import PostgresBounds, PostgresShelf
from atrium.storage.store_files import ShelfBounds, StoreFiles
from atrium.storage.vector_blocks import Row, VectorBlocks
from tests.ports.shelves import DIMENSIONS, NOW, indexed, unit
from tests.postgres import pgvector, postgres


@pytest.fixture(scope="module")
def plain() -> Generator[str]:
    with postgres() as url:
        yield url


@pytest.fixture(scope="module")
def extended() -> Generator[str]:
    with pgvector() as url:
        yield url


@dataclass(frozen=True)
class Kind:
    server: str | None = None
    vector_memory: int = 64 * 1024 * 1024
    exact_below: int = 10_000
    kept: str = ""


KINDS = {
    "files": Kind(),
    "files without memory": Kind(vector_memory=0),
    "postgresql": Kind("plain", kept="bytes"),
    "postgresql without memory": Kind("plain", vector_memory=0, kept="bytes"),
    "pgvector": Kind("extended", kept="pgvector"),
    "pgvector with indexes": Kind("extended", exact_below=2, kept="pgvector"),
}


@pytest.fixture(params=KINDS)
async def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Shelf]:
    kind = KINDS[request.param]
    if kind.server is None:
        files = StoreFiles(tmp_path, ShelfBounds(open_files=2, vector_memory=kind.vector_memory, small=3))
        yield files
        await files.close()
        return
    told: list[object] = []
    database = await open_database(request.getfixturevalue(kind.server), tmp_path / "unused")
    bounds = PostgresBounds(kind.vector_memory, kind.exact_below)
    shelf = PostgresShelf(database, bounds, lambda name, fields: told.append((name, fields.get("kept"))))
    await shelf.open()
    assert told == [("stores.opened", kind.kept)]
    yield shelf
    await shelf.close()
    await database.close()


@pytest.fixture
def store() -> str:
    return str(uuid.uuid4())


def fruits(store: str) -> Indexed:
    return indexed(store, "fruit.txt", ["an apple tree", "two ripe pears"], [unit(1, 0), unit(0, 1)], {"kind": "fruit"})


async def found(shelf: Shelf, store: str, vector: bytes, most: int = 10) -> list[str]:
    near = await shelf.nearest(store, vector, most, {})
    return [one.chunk.text for one in await shelf.found(store, [one.chunk_id for one in near], vector)]


async def test_a_document_comes_back_as_it_was_put(shelf: Shelf, store: str) -> None:
    one = fruits(store)
    await shelf.put(one)
    (document,) = await shelf.documents(store)
    assert (document.id, document.filename, document.chunks) == (one.document.id, "fruit.txt", 2)
    assert (document.metadata, document.created_at, document.status) == ({"kind": "fruit"}, NOW, Status.INDEXED)
    assert await shelf.text(store, document.id) == one.parsed
    assert await shelf.tally(store) == Tally(1, 2)
    same = await shelf.same(store, one.document.digest)
    assert same is not None
    assert (same.chunks, same.vectors, same.parsed) == (one.chunks, one.vectors, one.parsed)
    assert store in await shelf.stores()


async def test_a_store_that_is_not_there_is_empty(shelf: Shelf, store: str) -> None:
    assert await shelf.tally(store) == Tally()
    assert await shelf.documents(store) == ()
    assert await shelf.text(store, "x") is None
    assert await shelf.same(store, "x") is None
    assert await shelf.nearest(store, unit(1), 5, {}) == ()
    assert await shelf.matching(store, ["x"], 5, {}) == ()
    assert not await shelf.remove(store, "x")
    await shelf.drop(store)


async def test_the_nearest_come_first_with_their_cosine(shelf: Shelf, store: str) -> None:
    await shelf.put(fruits(store))
    near = await shelf.nearest(store, unit(1, 0.1), 10, {})
    assert [round(one.score, 3) for one in near] == [0.995, 0.1]
    hits = await shelf.found(store, [one.chunk_id for one in near], unit(1, 0.1))
    assert [(hit.chunk.text, hit.filename) for hit in hits] == [
        ("an apple tree", "fruit.txt"),
        ("two ripe pears", "fruit.txt"),
    ]
    assert hits[0].similarity == pytest.approx(near[0].score, abs=1e-5)
    assert await found(shelf, store, unit(0, 1), most=1) == ["two ripe pears"]


async def test_search_is_exact_among_many(shelf: Shelf, store: str) -> None:
    chance = random.Random(7)  # noqa: S311 - test data
    vectors = [unit(*(chance.gauss(0, 1) for _ in range(DIMENSIONS))) for _ in range(300)]
    for number in range(0, 300, 50):
        some = vectors[number : number + 50]
        await shelf.put(indexed(store, f"{number}.txt", [f"text {number + n}" for n in range(50)], some))
    asked = unit(*(chance.gauss(0, 1) for _ in range(DIMENSIONS)))
    numbers = struct.unpack(f"<{DIMENSIONS}f", asked)

    def cosine(vector: bytes) -> float:
        return sum(x * y for x, y in zip(struct.unpack(f"<{DIMENSIONS}f", vector), numbers, strict=True))

    best = sorted(range(300), key=lambda n: -cosine(vectors[n]))[:10]
    assert await found(shelf, store, asked) == [f"text {n}" for n in best]


async def test_words_are_found_in_any_form_and_syntax_means_nothing(shelf: Shelf, store: str) -> None:
    await shelf.put(fruits(store))
    for terms, texts in (
        (["apple"], ["an apple tree"]),
        (["pear"], ["two ripe pears"]),
        (["trees", "nothing"], ["an apple tree"]),
        (["missing"], []),
        ([], []),
    ):
        hits = await shelf.matching(store, terms, 10, {})
        assert [hit.chunk.text for hit in await shelf.found(store, [h.chunk_id for h in hits], unit(1))] == texts


async def test_metadata_narrows_every_way_of_finding(shelf: Shelf, store: str) -> None:
    await shelf.put(fruits(store))
    await shelf.put(indexed(store, "stone.txt", ["an apple of stone"], [unit(1, 0)], {"kind": "stone"}))
    for where, count in (({"kind": "stone"}, 1), ({"kind": "fruit"}, 2), ({"kind": "air"}, 0)):
        assert len(await shelf.nearest(store, unit(1), 10, where)) == count
    assert len(await shelf.matching(store, ["apple"], 10, {"kind": "stone"})) == 1


async def test_a_name_is_there_once_and_takes_its_old_chunks_along(shelf: Shelf, store: str) -> None:
    await shelf.put(fruits(store))
    assert len(await found(shelf, store, unit(1))) == 2
    await shelf.put(indexed(store, "fruit.txt", ["only plums"], [unit(0, 1)]))
    assert await found(shelf, store, unit(1)) == ["only plums"]
    assert await shelf.matching(store, ["apple"], 10, {}) == ()
    assert await shelf.tally(store) == Tally(1, 1)


async def test_what_is_put_twice_is_there_once(shelf: Shelf, store: str) -> None:
    one = fruits(store)
    await shelf.put(one)
    await shelf.put(one)
    assert await shelf.tally(store) == Tally(1, 2)
    assert len(await found(shelf, store, unit(1))) == 2


async def test_a_removed_document_is_gone_from_every_way_of_finding(shelf: Shelf, store: str) -> None:
    one = fruits(store)
    await shelf.put(one)
    await shelf.put(indexed(store, "b.txt", ["some bread"], [unit(0, 0, 1)]))
    near = await shelf.nearest(store, unit(1), 10, {})
    assert await shelf.remove(store, one.document.id)
    assert not await shelf.remove(store, one.document.id)
    assert await found(shelf, store, unit(1)) == ["some bread"]
    assert len(await shelf.found(store, [hit.chunk_id for hit in near], unit(1))) == 1
    assert await shelf.matching(store, ["apple"], 10, {}) == ()


async def test_stores_know_nothing_of_each_other(shelf: Shelf, store: str) -> None:
    others = [str(uuid.uuid4()) for _ in range(4)]
    for one in (store, *others):
        await shelf.put(indexed(one, "a.txt", [f"text of {one}"], [unit(1)]))
    for one in (store, *others):
        assert await found(shelf, one, unit(1)) == [f"text of {one}"]
    await shelf.drop(store)
    assert await shelf.tally(store) == Tally()
    assert store not in await shelf.stores()
    assert await found(shelf, others[0], unit(1)) == [f"text of {others[0]}"]


async def test_vectors_of_another_size_are_refused_and_change_nothing(shelf: Shelf, store: str) -> None:
    await shelf.put(fruits(store))
    with pytest.raises(Conflict):
        await shelf.put(indexed(store, "other.txt", ["words"], [unit(1, dimensions=8)]))
    assert [document.filename for document in await shelf.documents(store)] == ["fruit.txt"]


async def test_a_search_that_is_broken_off_while_it_reads_leaves_nothing_twice(
    plain: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = asyncio.Event()

    class Noted(VectorBlocks):
        def add(self, rows: Iterable[Row]) -> None:
            super().add(rows)
            loop.call_soon_threadsafe(reading.set)

    loop = asyncio.get_running_loop()
    monkeypatch.setattr("atrium.storage.kept_vectors.VectorBlocks", Noted)
    monkeypatch.setattr("atrium.storage.kept_vectors.FULL", 1)
    database = await open_database(plain, tmp_path / "unused")
    shelf = PostgresShelf(database, PostgresBounds(64 * 1024 * 1024, 10_000), nobody_hears)
    await shelf.open()
    store = str(uuid.uuid4())
    await shelf.put(indexed(store, "a.txt", [f"text {n}" for n in range(50)], [unit(1, n) for n in range(50)]))
    first = asyncio.create_task(shelf.nearest(store, unit(1), 100, {}))
    await reading.wait()
    first.cancel()
    await asyncio.wait([first])
    assert first.cancelled()
    near = await shelf.nearest(store, unit(1), 100, {})
    assert len({hit.chunk_id for hit in near}) == len(near) == 50
    await shelf.close()
    await database.close()
