"""Vectors of stores in PostgreSQL's extension pgvector: where it is there, the database searches them itself.

A store's vectors lie either here or as bytes beside its chunks (`kept_vectors.py`), never in both: one that has chunks
but no row here is still to be moved. Small stores are searched exactly; large ones by an approximate index of their
own, a partial one, since an index over all stores with a filter loses most of what it should find. All vectors have
unit length, so that their inner product is their cosine. Source: pgvector's README, version 0.8.
"""

from __future__ import annotations

import re
import uuid
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from atrium.core.documents import Scored
from atrium.decisions.plan_indexes import indexed_type
from atrium.storage.database import LOCK_NUMBER, Database
from atrium.storage.vector_blocks import FLOAT

LEAST_VERSION = (0, 8)
"""The first that goes on in an index until a filter has let enough through."""
LEAST_BREADTH, MOST_BREADTH = 200, 1000
"""Candidates that a search in an index keeps in view; 100 found all of the ten nearest among 100,000 when measured."""
SCHEMA = (
    (
        "create table documents.vectors ("
        " chunk bigint primary key, store text not null,"
        " document bigint not null references documents.documents on delete cascade, embedding vector not null)"
    ),
    # In its row as long as that fits a page: a scan that fetches each vector from elsewhere takes far longer.
    "alter table documents.vectors alter column embedding set storage main",
    "create index vectors_store on documents.vectors (store)",
    "create index vectors_document on documents.vectors (document)",
    "alter table documents.chunks alter column vector drop not null",
)
TABLE = "documents.vectors"
INSERT = (
    "with cut as (insert into documents.chunks (store, document, start, stop, page, text, terms) values"
    " (:store, :document, :start, :stop, :page, :text, to_tsvector('english', :terms)) returning id, store, document)"
    " insert into documents.vectors (chunk, store, document, embedding)"
    " select id, store, document, cast(cast(:vector as real[]) as vector) from cut"
)
ASKED = "cast(cast(:asked as real[]) as vector)"
SIMILARITY = (
    "(select case when vector_dims(embedding) = cardinality(cast(:asked as real[]))"  # noqa: S608 - ours
    f" then -(embedding <#> {ASKED}) else 0 end from documents.vectors where chunk = chunks.id)"
)
NUMBERS = "(select cast(embedding as real[]) from documents.vectors where chunk = chunks.id)"
TOTAL = "select coalesce(sum(chunks), 0) from documents.documents where store = :s"


@dataclass(frozen=True, slots=True)
class Usable:
    """Whether the extension can be used, else why not and what mends it."""

    why: str = ""
    hint: str = ""

    def __bool__(self) -> bool:
        return not self.why

    def told(self) -> Mapping[str, object]:
        if self:
            return {"kept": "pgvector"}
        return {"kept": "bytes", "why": self.why, "hint": self.hint}


def numbers(vector: bytes) -> list[float]:
    return array("f", vector).tolist()


async def make_usable(database: Database) -> Usable:
    """Look for the extension, and create it in this database where that is allowed."""
    query = text("select default_version, installed_version from pg_available_extensions where name = 'vector'")
    async with database.reading() as connection:
        known = (await connection.execute(query)).one_or_none()
    if known is None:
        return Usable("the server has no pgvector", "Install its package for this PostgreSQL, then start again")
    if known.installed_version is None:
        try:
            async with database.writing() as connection:
                # Of two gateways that create it in the same moment, one would fail.
                await connection.execute(text("select pg_advisory_xact_lock(:n)"), {"n": LOCK_NUMBER + 1})
                await connection.execute(text("create extension if not exists vector"))
        except DBAPIError as error:
            return Usable(str(error.orig), "In this database, as a superuser: CREATE EXTENSION vector")
    async with database.reading() as connection:
        seen = (await connection.execute(text("select to_regtype('vector') is not null"))).scalar_one()
    return judged(known.installed_version or known.default_version, on_path=seen)


def judged(version: str, *, on_path: bool) -> Usable:
    """An extension that is in the database."""
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < LEAST_VERSION:
        return Usable(f"pgvector {version} is older than 0.8", "As its owner: ALTER EXTENSION vector UPDATE")
    if not on_path:
        return Usable("its schema is not on the search path", "As its owner: ALTER EXTENSION vector SET SCHEMA public")
    return Usable()


async def make_table(connection: AsyncConnection) -> None:
    if not await table_there(connection):
        for statement in SCHEMA:
            await connection.execute(text(statement))


async def table_there(connection: AsyncConnection) -> bool:
    return bool((await connection.execute(text(f"select to_regclass('{TABLE}') is not null"))).scalar_one())


async def lies_here(connection: AsyncConnection, store_id: str) -> bool:
    """Whether the store's vectors are in the table; those of an empty store will be."""
    query = text(
        "select exists (select from documents.vectors where store = :s)"
        " or not exists (select from documents.chunks where store = :s)"
    )
    return bool((await connection.execute(query, {"s": store_id})).scalar_one())


async def vector_size(connection: AsyncConnection, store_id: str) -> int:
    """Bytes that each of the store's vectors has; 0 for none."""
    query = text("select vector_dims(embedding) from documents.vectors where store = :s limit 1")
    return int((await connection.execute(query, {"s": store_id})).scalar() or 0) * FLOAT


@dataclass(frozen=True, slots=True)
class PgVectors:
    database: Database
    exact_below: int
    """Chunks among which a search is exact."""

    async def nearest(
        self, store_id: str, vector: bytes, most: int, documents: Sequence[int] | None
    ) -> tuple[Scored, ...]:
        """By cosine to a unit vector, best first; of these documents only, where they are given."""
        given = {"asked": numbers(vector), "d": list(documents or ()), "s": store_id}
        which = "" if documents is None else " and document = any(cast(:d as bigint[]))"
        total = TOTAL if documents is None else f"{TOTAL} and id = any(cast(:d as bigint[]))"
        async with self.database.reading() as connection:
            if await vector_size(connection, store_id) != len(vector):
                return ()
            among = int((await connection.execute(text(total), given)).scalar_one())
            kind = indexed_type(len(vector) // FLOAT)
            if kind and among >= self.exact_below:
                await set_breadth(connection, most)
                found = await ranked(connection, by_index(store_id, kind, which, most), given)
                if len(found) >= min(most, among):
                    return found
            # Few to choose from, or an index full of what was deleted: look at each.
            return await ranked(connection, exactly(which, most), given)


async def set_breadth(connection: AsyncConnection, most: int) -> None:
    """For this transaction: how much of an index is looked at, and that it goes on until there are enough."""
    breadth = min(max(LEAST_BREADTH, 2 * most), MOST_BREADTH)
    query = text(
        "select set_config('hnsw.ef_search', :breadth, true), set_config('hnsw.iterative_scan', 'relaxed_order', true)"
    )
    await connection.execute(query, {"breadth": str(breadth)})


async def ranked(connection: AsyncConnection, query: str, given: Mapping[str, object]) -> tuple[Scored, ...]:
    rows = (await connection.execute(text(query), given)).all()
    return tuple(sorted((Scored(row.chunk, row.score) for row in rows), key=lambda one: (-one.score, one.chunk_id)))


def exactly(which: str, most: int) -> str:
    return (
        f"select chunk, -(embedding <#> {ASKED}) as score from documents.vectors where store = :s{which}"  # noqa: S608 - ours
        f" order by embedding <#> {ASKED}, chunk limit {most:d}"
    )


def by_index(store_id: str, kind: str, which: str, most: int) -> str:
    """The store stands in the text, not beside it: only so does the database see that the store's own index fits.

    Exact where there is no such index, or where the database finds another way cheaper.
    """
    return (
        f"select chunk, -(embedding <#> {ASKED}) as score from (select chunk, embedding from documents.vectors"  # noqa: S608 - a UUID
        f" where store = '{uuid.UUID(store_id)}'{which}"
        f" order by cast(embedding as {kind}) <#> cast({ASKED} as {kind}) limit {most:d}) as near"
    )
