"""Stores in PostgreSQL, for several gateways on one database. Implements `core.document_ports.Shelf`.

Documents are rows that never change, so what a gateway has in memory is brought up to date by comparing their ids.
Search by meaning is exact, as in the files of `store_files.py`: vectors are kept in memory as far as there is room.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import orjson
from sqlalchemy import Row as DataRow
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from atrium.core.documents import Chunk, Document, Found, Indexed, Metadata, Page, Parsed, Scored, Status, Tally
from atrium.core.errors import Conflict
from atrium.decisions.fit_metadata import fit_metadata
from atrium.decisions.fold_text import fold_text
from atrium.storage.database import LOCK_NUMBER, Database
from atrium.storage.vector_blocks import FLOAT, FULL, Row, VectorBlocks, cosine

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
        " stop integer not null, page integer, text text not null, vector bytea not null, terms tsvector not null)"
    ),
    "create index if not exists chunks_document on documents.chunks (document)",
    "create index if not exists chunks_store on documents.chunks (store)",
    "create index if not exists chunks_terms on documents.chunks using gin (terms)",
)
COLUMNS = "uid, store, filename, size, digest, metadata, created_at, chunks"


class Kept:
    """A store's vectors in memory, and of which documents they are."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.mark: tuple[int, int] = (0, 0)
        self.documents: set[int] = set()
        self.blocks: VectorBlocks | None = None


class PostgresShelf:
    def __init__(self, database: Database, vector_memory: int) -> None:
        self._database = database
        self._memory = vector_memory
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        """Least recently used first."""

    async def open(self) -> None:
        """Make the tables that are missing; gateways that start together do so one after the other."""
        async with self._database.writing() as connection:
            await connection.execute(text("select pg_advisory_xact_lock(:n)"), {"n": LOCK_NUMBER + 1})
            for statement in SCHEMA:
                await connection.execute(text(statement))

    async def close(self) -> None:
        """The database is closed by whom it belongs to."""
        self._kept.clear()

    # Changes.

    async def put(self, indexed: Indexed) -> None:
        """Raises Conflict for vectors of another size."""
        document = indexed.document
        async with self._database.writing() as connection:
            # One after the other in a store: two with one name must not both find nothing to replace.
            await connection.execute(text("select pg_advisory_xact_lock(hashtext(:s))"), {"s": document.store_id})
            await self._fit_vectors(connection, indexed)
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
                    "vector": vector,
                    "terms": fold_text(chunk.text),
                }
                for chunk, vector in zip(indexed.chunks, indexed.vectors, strict=True)
            ]
            if rows:
                await connection.execute(
                    text(
                        "insert into documents.chunks (store, document, start, stop, page, text, vector, terms) values"
                        " (:store, :document, :start, :stop, :page, :text, :vector, to_tsvector('english', :terms))"
                    ),
                    rows,
                )

    async def _fit_vectors(self, connection: AsyncConnection, indexed: Indexed) -> None:
        query = text("select length(vector) from documents.chunks where store = :s limit 1")
        size = (await connection.execute(query, {"s": indexed.document.store_id})).scalar()
        if size and indexed.vectors and size != len(indexed.vectors[0]):
            raise Conflict(
                f"This store's vectors have {size // FLOAT} numbers, but its model now makes"
                f" {len(indexed.vectors[0]) // FLOAT}",
                hint="Make a new store, or put the model back that this one was made with",
            )

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
        self._kept.pop(store_id, None)
        async with self._database.writing() as connection:
            await connection.execute(text("delete from documents.documents where store = :s"), {"s": store_id})

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
        chunks = await self._rows(
            "select start, stop, text, page, vector from documents.chunks where document = :n order by id",
            n=rows[0].id,
        )
        cut = tuple(Chunk(row.start, row.stop, row.text, row.page) for row in chunks)
        return Indexed(as_document(rows[0]), as_parsed(rows[0]), cut, tuple(row.vector for row in chunks))

    async def matching(self, store_id: str, terms: Sequence[str], most: int, where: Metadata) -> tuple[Scored, ...]:
        if not terms:
            return ()
        documents = await self._chosen(store_id, where)
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
        query = (
            "select chunks.id, start, stop, page, chunks.text, vector, uid, filename, metadata from documents.chunks"
            " join documents.documents on documents.id = document"
            " where chunks.store = :s and chunks.id = any(cast(:ids as bigint[]))"
        )
        rows = {row.id: row for row in await self._rows(query, s=store_id, ids=list(chunk_ids))}
        there = [rows[chunk_id] for chunk_id in chunk_ids if chunk_id in rows]
        return tuple(
            Found(
                row.id,
                Chunk(row.start, row.stop, row.text, row.page),
                row.uid,
                row.filename,
                orjson.loads(row.metadata),
                cosine(row.vector, vector),
            )
            for row in there
        )

    async def stores(self) -> frozenset[str]:
        return frozenset(row.store for row in await self._rows("select distinct store from documents.documents"))

    async def nearest(self, store_id: str, vector: bytes, most: int, where: Metadata) -> tuple[Scored, ...]:
        documents = await self._chosen(store_id, where)
        size = (await self.tally(store_id)).chunks * len(vector)
        if size <= self._memory:
            blocks = await self._up_to_date(store_id, len(vector) // FLOAT, size)
            return await asyncio.to_thread(blocks.nearest, vector, most, documents)
        best: list[Scored] = []
        async for rows in self._batches("store = :s", len(vector), s=store_id):
            blocks = VectorBlocks(len(vector) // FLOAT)
            blocks.add(rows)
            best += await asyncio.to_thread(blocks.nearest, vector, most, documents)
            best = sorted(best, key=lambda one: (-one.score, one.chunk_id))[:most]
        return tuple(best)

    async def _up_to_date(self, store_id: str, dimensions: int, size: int) -> VectorBlocks:
        """The store's vectors in memory as the database has them now."""
        kept = self._kept.setdefault(store_id, Kept())
        self._kept.move_to_end(store_id)
        async with kept.lock:
            query = "select count(*) as many, coalesce(max(id), 0) as newest from documents.documents where store = :s"
            row = (await self._rows(query, s=store_id))[0]
            mark = int(row.many), int(row.newest)
            if kept.blocks is None:
                self._make_room(size, store_id)
                kept.blocks = await asyncio.to_thread(VectorBlocks, dimensions)
            if kept.mark != mark:
                rows = await self._rows("select id from documents.documents where store = :s", s=store_id)
                there = {row.id for row in rows}
                await asyncio.to_thread(kept.blocks.remove, sorted(kept.documents - there))
                new = sorted(there - kept.documents)
                async for batch in self._batches("document = any(cast(:d as bigint[]))", dimensions * FLOAT, d=new):
                    await asyncio.to_thread(kept.blocks.add, batch)
                kept.documents, kept.mark = there, mark
            return kept.blocks

    def _make_room(self, needed: int, store_id: str) -> None:
        """The least recently used stores give up what they keep."""
        used = sum(one.blocks.size for one in self._kept.values() if one.blocks)
        for other in [one for one in self._kept if one != store_id]:
            if used + needed <= self._memory:
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

    async def _chosen(self, store_id: str, where: Metadata) -> list[int] | None:
        """Numbers of the documents with that metadata; None for all."""
        if not where:
            return None
        rows = await self._rows("select id, metadata from documents.documents where store = :s", s=store_id)
        return [row.id for row in rows if fit_metadata(orjson.loads(row.metadata), where)]

    async def _rows(self, query: str, **given: Any) -> Sequence[DataRow[Any]]:
        async with self._database.reading() as connection:
            return (await connection.execute(text(query), given)).all()


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
