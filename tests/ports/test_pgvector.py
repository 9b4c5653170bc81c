"""PostgreSQL with pgvector: how stores come into it, and what its indexes must not change."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from atrium.core.documents import Scored
from atrium.decisions.plan_indexes import Large
from atrium.storage.database import database_url, open_database
from atrium.storage.pgvector import by_index, judged, numbers
from atrium.storage.postgres_shelf import RARE, PostgresBounds, PostgresShelf
from tests.ports.shelves import DIMENSIONS, indexed, unit
from tests.postgres import pgvector

MIB = 1024 * 1024
MANY = 600
Told = list[tuple[str, Mapping[str, object]]]


@pytest.fixture(scope="module")
def server() -> Generator[str]:
    with pgvector() as url:
        yield url


@pytest.fixture
async def admin(server: str, tmp_path: Path) -> AsyncGenerator[tuple[AsyncEngine, str]]:
    """A database that belongs to a user without rights: its administrator's engine, and the user's address."""
    name = f"a{uuid.uuid4().hex}"
    above = create_async_engine(database_url(server, tmp_path), isolation_level="AUTOCOMMIT")
    async with above.connect() as connection:
        if not (await connection.execute(text("select 1 from pg_roles where rolname = 'plain'"))).scalar():
            await connection.execute(text("create role plain login"))
        await connection.execute(text(f"create database {name} owner plain"))
        # So few rows are sorted as quickly as found by an index, but it is the index that is looked at here.
        await connection.execute(text(f"alter database {name} set enable_sort = off"))
    await above.dispose()
    address = server.replace("/atrium?", f"/{name}?")
    engine = create_async_engine(database_url(address, tmp_path), isolation_level="AUTOCOMMIT")
    yield engine, address.replace("//atrium@", "//plain@")
    await engine.dispose()


async def extend(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await connection.execute(text("create extension vector"))


@asynccontextmanager
async def opened(
    url: str, told: Told, exact_below: int = 10_000, *, tending: bool = True
) -> AsyncGenerator[PostgresShelf]:
    database = await open_database(url, Path("unused"))

    def tell(name: str, fields: Mapping[str, object]) -> None:
        told.append((name, fields))

    shelf = PostgresShelf(database, PostgresBounds(64 * MIB, exact_below), tell)
    if not tending:
        shelf.upkeep.start = lambda: None
    await shelf.open()
    try:
        yield shelf
    finally:
        await shelf.close()
        await database.close()


def some(number: int, seed: int = 3) -> list[bytes]:
    chance = random.Random(seed)  # noqa: S311 - test data
    return [unit(*(chance.gauss(0, 1) for _ in range(DIMENSIONS))) for _ in range(number)]


async def filled(shelf: PostgresShelf, store: str, vectors: list[bytes], each: int = 100) -> None:
    for first in range(0, len(vectors), each):
        part = vectors[first : first + each]
        texts = [f"text {first + n}" for n in range(len(part))]
        await shelf.put(indexed(store, f"{first}.txt", texts, part, {"part": first // each}))


async def texts_of(shelf: PostgresShelf, store: str, near: tuple[Scored, ...], asked: bytes) -> list[str]:
    return [one.chunk.text for one in await shelf.found(store, [hit.chunk_id for hit in near], asked)]


def cosine(one: bytes, other: bytes) -> float:
    return sum(x * y for x, y in zip(numbers(one), numbers(other), strict=True))


def best(vectors: list[bytes], asked: bytes, most: int, among: Callable[[int], bool] = lambda _: True) -> list[str]:
    order = sorted((n for n in range(len(vectors)) if among(n)), key=lambda n: -cosine(vectors[n], asked))
    return [f"text {n}" for n in order[:most]]


async def indexes(engine: AsyncEngine) -> dict[str, bool]:
    query = (
        "select relname, indisvalid from pg_index join pg_class on pg_class.oid = indexrelid where relname like 'near%'"
    )
    async with engine.connect() as connection:
        return {row.relname: row.indisvalid for row in await connection.execute(text(query))}


async def test_a_large_store_gets_an_index_that_finds_what_an_exact_search_does(admin: tuple[AsyncEngine, str]) -> None:
    engine, url = admin
    await extend(engine)
    told: Told = []
    store, vectors = str(uuid.uuid4()), some(MANY)
    async with opened(url, told, exact_below=200, tending=False) as shelf:
        await filled(shelf, store, vectors)
        await shelf.upkeep.round()
        assert await indexes(engine) == {Large(store, MANY, DIMENSIONS).index: True}
        assert ("stores.indexed", store, MANY) in [(name, f.get("store"), f.get("chunks")) for name, f in told]
        async with engine.connect() as connection:
            plan = await connection.execute(
                text(f"explain {by_index(store, f'vector({DIMENSIONS})', '', 10)}"), {"asked": numbers(vectors[0])}
            )
            assert Large(store, MANY, DIMENSIONS).index in "\n".join(row[0] for row in plan)
        hits = 0
        for asked in some(20, seed=4):
            near = await shelf.nearest(store, asked, 10, {})
            assert [one.score for one in near] == sorted((one.score for one in near), reverse=True)
            hits += len(set(await texts_of(shelf, store, near, asked)) & set(best(vectors, asked, 10)))
        assert hits >= 198


async def test_a_filter_starves_no_search(admin: tuple[AsyncEngine, str]) -> None:
    engine, url = admin
    await extend(engine)
    store, vectors = str(uuid.uuid4()), some(MANY)
    async with opened(url, [], exact_below=50, tending=False) as shelf:
        await filled(shelf, store, vectors)
        await shelf.upkeep.round()
        (asked,) = some(1, seed=5)
        for part in range(MANY // 100):
            near = await shelf.nearest(store, asked, 30, {"part": part})
            wanted = best(vectors, asked, 30, lambda n, part=part: n // 100 == part)
            assert len(set(await texts_of(shelf, store, near, asked)) & set(wanted)) >= 29
        assert len(await shelf.nearest(store, asked, MANY, {})) == MANY


async def test_what_was_deleted_leaves_enough_to_find(admin: tuple[AsyncEngine, str]) -> None:
    engine, url = admin
    await extend(engine)
    store, vectors = str(uuid.uuid4()), some(MANY)
    async with opened(url, [], exact_below=50, tending=False) as shelf:
        await filled(shelf, store, vectors)
        await shelf.upkeep.round()
        for document in (await shelf.documents(store))[:-1]:
            assert await shelf.remove(store, document.id)
        (asked,) = some(1, seed=6)
        near = await shelf.nearest(store, asked, 100, {})
        assert await texts_of(shelf, store, near, asked) == best(vectors, asked, 100, lambda n: n >= MANY - 100)


async def test_an_index_goes_with_its_store_and_a_broken_one_is_built_anew(admin: tuple[AsyncEngine, str]) -> None:
    engine, url = admin
    await extend(engine)
    store = str(uuid.uuid4())
    name = Large(store, 100, DIMENSIONS).index
    async with opened(url, [], exact_below=50, tending=False) as shelf:
        await filled(shelf, store, some(100))
        await shelf.upkeep.round()
        async with engine.connect() as connection:
            query = "update pg_index set indisvalid = false where indexrelid = to_regclass(:name)"
            await connection.execute(text(query), {"name": f'documents."{name}"'})
        assert await indexes(engine) == {name: False}
        await shelf.upkeep.round()
        assert await indexes(engine) == {name: True}
        await shelf.drop(store)
        await shelf.upkeep.round()
        assert await indexes(engine) == {}


async def test_without_the_right_to_create_it_bytes_serve_and_the_command_is_told(
    admin: tuple[AsyncEngine, str],
) -> None:
    engine, url = admin
    told: Told = []
    store, vectors = str(uuid.uuid4()), some(40)
    async with opened(url, told) as shelf:
        ((name, fields),) = told
        assert (name, fields["kept"]) == ("stores.opened", "bytes")
        assert "permission denied" in str(fields["why"])
        assert "CREATE EXTENSION vector" in str(fields["hint"])
        await filled(shelf, store, vectors, each=10)
        near = await shelf.nearest(store, vectors[7], 5, {})
        assert await texts_of(shelf, store, near, vectors[7]) == best(vectors, vectors[7], 5)
        # Another gateway starts once the administrator has done so; this one goes on in what that one makes of it.
        await extend(engine)
        async with opened(url, told, tending=False) as other:
            await other.upkeep.round()
            assert ("stores.moved", {"store": store, "chunks": 40}) in told
            for one in (shelf, other):
                near = await one.nearest(store, vectors[7], 5, {})
                assert await texts_of(one, store, near, vectors[7]) == best(vectors, vectors[7], 5)
            await shelf.put(indexed(store, "more.txt", ["one more"], [unit(1)]))
            assert await texts_of(other, store, await other.nearest(store, unit(1), 1, {}), unit(1)) == ["one more"]
            first = (await other.documents(store))[0]
            same = await other.same(store, first.digest)
            assert same is not None
            assert same.vectors == tuple(vectors[:10])


async def test_a_store_that_is_killed_while_it_is_moved_is_whole_and_moved_later(
    admin: tuple[AsyncEngine, str],
) -> None:
    engine, url = admin
    store, vectors = str(uuid.uuid4()), some(40)
    async with opened(url, []) as shelf:
        await filled(shelf, store, vectors, each=10)
    await extend(engine)
    told: Told = []
    async with opened(url, told, tending=False) as shelf, engine.connect() as connection:
        await connection.execution_options(isolation_level="READ COMMITTED")
        # Its last step waits for this lock, and there it is ended.
        await connection.execute(text("lock table documents.chunks in share mode"))
        moving = asyncio.create_task(shelf.upkeep.round())
        waiting = "from pg_locks where not granted and relation = 'documents.chunks'::regclass"
        until = f"do $$ begin while not exists (select {waiting}) loop perform pg_sleep(0.01); end loop; end $$"
        await connection.execute(text(until))
        await connection.execute(text(f"select pg_terminate_backend(pid) {waiting}"))
        with pytest.raises(DBAPIError):
            await moving
        await connection.rollback()
        near = await shelf.nearest(store, vectors[3], 40, {})
        assert await texts_of(shelf, store, near, vectors[3]) == best(vectors, vectors[3], 40)
        await shelf.upkeep.round()
        assert ("stores.moved", {"store": store, "chunks": 40}) in told
        near = await shelf.nearest(store, vectors[3], 40, {})
        assert await texts_of(shelf, store, near, vectors[3]) == best(vectors, vectors[3], 40)


async def test_a_word_that_stands_everywhere_is_looked_for_only_alone(admin: tuple[AsyncEngine, str]) -> None:
    engine, url = admin
    await extend(engine)
    store, many = str(uuid.uuid4()), RARE + 1
    texts = [f"common words {'quince' if n == 7 else ''}" for n in range(many)]
    async with opened(url, [], exact_below=many, tending=False) as shelf:
        await shelf.put(indexed(store, "a.txt", texts, some(10) * (many // 10) + some(many % 10)))
        await shelf.upkeep.round()
        for terms, count in ((["common", "quince"], 1), (["common"], 50), (["common", "word"], 50), (["the"], 0)):
            assert len(await shelf.matching(store, terms, 50, {})) == count, terms


async def test_one_gateway_at_a_time_tends_the_vectors(admin: tuple[AsyncEngine, str]) -> None:
    engine, url = admin
    await extend(engine)
    store = str(uuid.uuid4())
    async with opened(url, [], exact_below=50, tending=False) as shelf:
        await filled(shelf, store, some(60))
        async with shelf.upkeep.alone() as connection:
            assert connection is not None
            await shelf.upkeep.round()
            assert await indexes(engine) == {}


def test_what_keeps_pgvector_from_being_used_is_told_with_what_mends_it() -> None:
    assert judged("0.8.5", on_path=True)
    assert judged("1.0", on_path=True).told() == {"kept": "pgvector"}
    assert "UPDATE" in judged("0.7.4", on_path=True).hint
    assert "SET SCHEMA" in judged("0.8.0", on_path=False).hint
