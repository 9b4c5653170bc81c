"""Stores in PostgreSQL, for several gateways on one database. Implements `core.document_ports.Shelf`.

Vectors lie in pgvector's type where the database has it (`pgvector.py`), and otherwise as bytes (`kept_vectors.py`).
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Row as DataRow
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from atrium.core.documents import Chunk, Document, Found, Indexed, Metadata, Page, Parsed, Scored, Status, Tally
from atrium.core.errors import Conflict
from atrium.core.events import Tell
from atrium.decisions.fit_metadata import fit_metadata
from atrium.decisions.fold_text import fold_text
from atrium.storage.database import LOCK_NUMBER, Database
from atrium.storage.kept_vectors import KeptVectors
from atrium.storage.pgvector import (
    INSERT,
    NUMBERS,
    SIMILARITY,
    PgVectors,
    lies_here,
    make_table,
    make_usable,
    numbers,
    table_there,
    vector_size,
)
from atrium.storage.vector_blocks import FLOAT, cosine
from atrium.storage.vector_upkeep import VectorUpkeep

SCHEMA = (
    "create schema if not exists documents",
    (
        "create table if not exists documents.documents ("
        " id bigint generated always as identity primary key, store text not null, uid text not null unique,"
        " filename text not null, size bigint not null, digest text not null, metadata text not null,"
        " created_at timestamptz not null, chunks integer not null, title text not null, text text not null,"
        " pages text not null, unique (store, filename))"
    ),
    "create index if not exists documents_digest on documents.documents (store, digest)",
    (
        "create table if not exists documents.chunks ("
        " id bigint generated always as identity primary key, store text not null,"
        " document bigint not null references documents.documents on delete cascade, start integer not null,"
        " stop integer not null, page integer, text text not null, vector bytea, terms tsvector not null)"
    ),
    "create index if not exists chunks_document on documents.chunks (document)",
    "create index if not exists chunks_store on documents.chunks (store)",
    "create index if not exists chunks_terms on documents.chunks using gin (terms)",
)
INSERT_KEPT = (
    "insert into documents.chunks (store, document, start, stop, page, text, vector, terms) values"
    " (:store, :document, :start, :stop, :page, :text, :vector, to_tsvector('english', :terms))"
)
COLUMNS = "uid, store, filename, size, digest, metadata, created_at, chunks"
RARE = 2000
"""Chunks of a store in which every term is looked for."""
COMMON_SHARE = 0.2
"""A term in more of all chunks is not looked for beside rarer ones: ranking those costs most and tells least."""
SHARES = (
    "with common as (select word, share from pg_stats,"
    " unnest(cast(cast(most_common_elems as text) as text[]), most_common_elem_freqs) as one (word, share)"
    " where schemaname = 'documents' and tablename = 'chunks' and attname = 'terms' and word is not null)"
    " select term, (select min(coalesce(share, 0)) from unnest(tsvector_to_array(to_tsvector('english', term))) as own"
    "  left join common on word = own) as share"
    " from unnest(cast(:terms as text[])) as term"
)
"""In what share of all chunks a term stands, as the database last counted; null for one that is never looked for."""


@dataclass(frozen=True, slots=True)
class PostgresBounds:
    vector_memory: int
    """Bytes, for all vectors that are searched in memory; for building one index, where pgvector is."""
    exact_below: int
    """Chunks of a store that pgvector searches exactly; larger ones get an index."""


class PostgresShelf:
    def __init__(self, database: Database, bounds: PostgresBounds, tell: Tell) -> None:
        self._database = database
        self._tell = tell
        self._kept = KeptVectors(database, bounds.vector_memory)
        self._vectors = PgVectors(database, bounds.exact_below)
        self._with_table = False
        """Whether pgvector's table was seen: once it is there it stays, and another gateway may have made it."""
        self.upkeep = VectorUpkeep(database, bounds.exact_below, bounds.vector_memory, tell)

    async def open(self) -> None:
        """Make the tables that are missing; gateways that start together do so one after the other."""
        usable = await make_usable(self._database)
        async with self._database.writing() as connection:
            await connection.execute(text("select pg_advisory_xact_lock(:n)"), {"n": LOCK_NUMBER + 1})
            for statement in SCHEMA:
                await connection.execute(text(statement))
            if usable:
                await make_table(connection)
        self._tell("stores.opened", usable.told())
        self.upkeep.start()

    async def close(self) -> None:
        """The database is closed by whom it belongs to."""
        await self.upkeep.close()
        self._kept.clear()

    async def _in_table(self, connection: AsyncConnection) -> bool:
        self._with_table = self._with_table or await table_there(connection)
        return self._with_table

    async def _by_pgvector(self, connection: AsyncConnection, store_id: str) -> bool:
        """Whether the store's vectors are in pgvector's table, or will be as its first."""
        return await self._in_table(connection) and await lies_here(connection, store_id)

    # Changes.

    async def put(self, indexed: Indexed) -> None:
        """Raises Conflict for vectors of another size."""
        document = indexed.document
        async with self._database.writing() as connection:
            # One after the other in a store: two with one name must not both find nothing to replace.
            await connection.execute(text("select pg_advisory_xact_lock(hashtext(:s))"), {"s": document.store_id})
            there = await self._by_pgvector(connection, document.store_id)
            size = await (vector_size if there else kept_size)(connection, document.store_id)
            check_size(size, indexed.vectors)
            await connection.execute(
                text("delete from documents.documents where uid = :uid or (store = :store and filename = :filename)"),
                {"uid": document.id, "store": document.store_id, "filename": document.filename},
            )
            number = await self._insert_document(connection, indexed)
            rows = [
                {
                    "store": document.store_id,
                    "document": number,
                    "start": chunk.start,
                    "stop": chunk.end,
                    "page": chunk.page,
                    "text": chunk.text,
                    "vector": numbers(vector) if there else vector,
                    "terms": fold_text(chunk.text),
                }
                for chunk, vector in zip(indexed.chunks, indexed.vectors, strict=True)
            ]
            if rows:
                await connection.execute(text(INSERT if there else INSERT_KEPT), rows)
        self.upkeep.wake()

    async def _insert_document(self, connection: AsyncConnection, indexed: Indexed) -> int:
        document, parsed = indexed.document, indexed.parsed
        query = text(
            f"insert into documents.documents ({COLUMNS}, title, text, pages) values (:uid, :store, :filename, :size,"  # noqa: S608 - a constant
            " :digest, :metadata, :created_at, :chunks, :title, :text, :pages) returning id"
        )
        values = {
            "uid": document.id,
            "store": document.store_id,
            "filename": document.filename,
            "size": document.size,
            "digest": document.digest,
            "metadata": orjson.dumps(dict(document.metadata)).decode(),
            "created_at": document.created_at,
            "chunks": len(indexed.chunks),
            "title": parsed.title,
            "text": parsed.text,
            "pages": orjson.dumps([(page.number, page.start, page.end) for page in parsed.pages]).decode(),
        }
        return int((await connection.execute(query, values)).scalar_one())

    async def remove(self, store_id: str, document_id: str) -> bool:
        query = "delete from documents.documents where store = :s and uid = :u returning id"
        async with self._database.writing() as connection:
            return bool((await connection.execute(text(query), {"s": store_id, "u": document_id})).all())

    async def drop(self, store_id: str) -> None:
        self._kept.forget(store_id)
        async with self._database.writing() as connection:
            await connection.execute(text("delete from documents.documents where store = :s"), {"s": store_id})
        self.upkeep.wake()

    # Reading.

    async def tally(self, store_id: str) -> Tally:
        query = "select count(*) as many, coalesce(sum(chunks), 0) as cut from documents.documents where store = :s"
        row = (await self._rows(query, s=store_id))[0]
        return Tally(int(row.many), int(row.cut))

    async def documents(self, store_id: str) -> tuple[Document, ...]:
        query = f"select {COLUMNS} from documents.documents where store = :s order by id"  # noqa: S608 - a constant
        return tuple(as_document(row) for row in await self._rows(query, s=store_id))

    async def text(self, store_id: str, document_id: str) -> Parsed | None:
        query = "select text, pages, title from documents.documents where store = :s and uid = :u"
        rows = await self._rows(query, s=store_id, u=document_id)
        return as_parsed(rows[0]) if rows else None

    async def same(self, store_id: str, digest: str) -> Indexed | None:
        query = (
            f"select {COLUMNS}, text, pages, title, id from documents.documents"  # noqa: S608 - a constant
            " where store = :s and digest = :d limit 1"
        )
        rows = await self._rows(query, s=store_id, d=digest)
        if not rows:
            return None
        async with self._database.reading() as connection:
            moved = NUMBERS if await self._in_table(connection) else "null"
        query = (
            f"select start, stop, text, page, vector, {moved} as numbers from documents.chunks"  # noqa: S608 - a constant
            " where document = :n order by id"
        )
        chunks = await self._rows(query, n=rows[0].id)
        cut = tuple(Chunk(row.start, row.stop, row.text, row.page) for row in chunks)
        vectors = tuple(row.vector if row.numbers is None else array("f", row.numbers).tobytes() for row in chunks)
        return Indexed(as_document(rows[0]), as_parsed(rows[0]), cut, vectors)

    async def matching(self, store_id: str, terms: Sequence[str], most: int, where: Metadata) -> tuple[Scored, ...]:
        if not terms:
            return ()
        documents = await self._chosen(store_id, where)
        if (await self.tally(store_id)).chunks > RARE:
            terms = rarer(terms, {row.term: row.share for row in await self._rows(SHARES, terms=list(terms))})
        query = (
            "select chunks.id, ts_rank_cd(terms, asked, 1) as rank from documents.chunks,"
            " (select string_agg(nullif(words::text, ''), ' | ')::tsquery as asked from"
            "  (select plainto_tsquery('english', given) as words from unnest(cast(:terms as text[])) as given)"
            "  as each_one) as wanted"
            " where store = :s and asked is not null and terms @@ asked"
            " and (cast(:all as boolean) or document = any(cast(:d as bigint[])))"
            " order by rank desc, chunks.id limit :most"
        )
        given = {"terms": list(terms), "s": store_id, "all": documents is None, "d": documents or [], "most": most}
        return tuple(Scored(row.id, row.rank) for row in await self._rows(query, **given))

    async def found(self, store_id: str, chunk_ids: Sequence[int], vector: bytes) -> tuple[Found, ...]:
        async with self._database.reading() as connection:
            there = await self._in_table(connection)
        similarity = SIMILARITY if there else "null"
        query = (
            f"select chunks.id, start, stop, page, chunks.text, vector, {similarity} as similarity,"  # noqa: S608 - a constant
            " uid, filename, metadata from documents.chunks"
            " join documents.documents on documents.id = document"
            " where chunks.store = :s and chunks.id = any(cast(:ids as bigint[]))"
        )
        asked = {"asked": numbers(vector)} if there else {}
        rows = {row.id: row for row in await self._rows(query, s=store_id, ids=list(chunk_ids), **asked)}
        found = [rows[chunk_id] for chunk_id in chunk_ids if chunk_id in rows]
        return tuple(
            Found(
                row.id,
                Chunk(row.start, row.stop, row.text, row.page),
                row.uid,
                row.filename,
                orjson.loads(row.metadata),
                cosine(row.vector, vector) if row.similarity is None else row.similarity,
            )
            for row in found
        )

    async def stores(self) -> frozenset[str]:
        return frozenset(row.store for row in await self._rows("select distinct store from documents.documents"))

    async def nearest(self, store_id: str, vector: bytes, most: int, where: Metadata) -> tuple[Scored, ...]:
        documents = await self._chosen(store_id, where)
        async with self._database.reading() as connection:
            there = await self._by_pgvector(connection, store_id)
        if not there:
            near = await self._kept.nearest(store_id, vector, most, documents)
            async with self._database.reading() as connection:
                there = await self._by_pgvector(connection, store_id)
            if not there:
                return near
        # It was moved, perhaps while it was searched.
        self._kept.forget(store_id)
        return await self._vectors.nearest(store_id, vector, most, documents)

    async def _chosen(self, store_id: str, where: Metadata) -> list[int] | None:
        """Numbers of the documents with that metadata; None for all."""
        if not where:
            return None
        rows = await self._rows("select id, metadata from documents.documents where store = :s", s=store_id)
        return [row.id for row in rows if fit_metadata(orjson.loads(row.metadata), where)]

    async def _rows(self, query: str, **given: Any) -> Sequence[DataRow[Any]]:
        async with self._database.reading() as connection:
            return (await connection.execute(text(query), given)).all()


def rarer(terms: Sequence[str], shares: Mapping[str, float | None]) -> Sequence[str]:
    """Without terms that stand in many chunks, unless all do: then the rarest of them."""
    counted = {term: share for term in terms if (share := shares[term]) is not None}
    rare = [term for term, share in counted.items() if share <= COMMON_SHARE]
    return rare or sorted(counted, key=lambda term: counted[term])[:1]


async def kept_size(connection: AsyncConnection, store_id: str) -> int:
    """Bytes that each of the store's vectors has; 0 for none."""
    query = text("select length(vector) from documents.chunks where store = :s and vector is not null limit 1")
    return int((await connection.execute(query, {"s": store_id})).scalar() or 0)


def check_size(size: int, vectors: Sequence[bytes]) -> None:
    """Raises Conflict for vectors of another size than a store's own."""
    if size and vectors and size != len(vectors[0]):
        raise Conflict(
            f"This store's vectors have {size // FLOAT} numbers, but its model now makes {len(vectors[0]) // FLOAT}",
            hint="Make a new store, or put the model back that this one was made with",
        )


def as_document(row: DataRow[Any]) -> Document:
    return Document(
        id=row.uid,
        store_id=row.store,
        filename=row.filename,
        size=row.size,
        digest=row.digest,
        created_at=row.created_at,
        metadata=orjson.loads(row.metadata),
        status=Status.INDEXED,
        chunks=row.chunks,
        progress=1.0,
    )


def as_parsed(row: DataRow[Any]) -> Parsed:
    return Parsed(row.text, tuple(Page(*page) for page in orjson.loads(row.pages)), row.title)
