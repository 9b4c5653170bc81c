"""One document store in one SQLite file: documents, chunks, vectors (sqlite-vec) and an index of words (FTS5).

Everything here blocks and belongs into a thread; `store_files.py` sees to that. One connection writes, another reads,
so a search sees the state before a change or after it.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import apsw
import orjson
import sqlite_vec

from atrium.core.documents import Chunk, Document, Found, Indexed, Metadata, Page, Parsed, Scored, Status, Tally
from atrium.core.errors import Conflict
from atrium.decisions.fit_metadata import fit_metadata
from atrium.decisions.fold_text import fold_text
from atrium.storage.vector_blocks import Row, cosine

SCHEMA = """
create table if not exists facts (name text primary key, value) without rowid;
create table if not exists documents (
    id integer primary key autoincrement, uid text not null unique, filename text not null unique,
    size integer not null, digest text not null, metadata text not null, created_at text not null,
    chunks integer not null, title text not null
);
create index if not exists documents_digest on documents (digest);
create table if not exists texts (document integer primary key, text text not null, pages text not null);
create table if not exists chunks (
    id integer primary key autoincrement, document integer not null, start integer not null, stop integer not null,
    page integer, text text not null
);
create index if not exists chunks_document on chunks (document);
create virtual table if not exists words using fts5(
    terms, content='', contentless_delete=1, tokenize='porter unicode61'
);
create virtual table if not exists vocabulary using fts5vocab(words, row);
"""
STEMMER = ("porter", ["unicode61"])
Db = Any
"""An apsw connection: its own types leave out what a value may be."""
FLOAT = 4
BUSY_MS = 15_000
CACHE_KIB = 8192
RARE = 2000
"""A term in no more chunks than this is always looked for; one in more only where it stands in few of all chunks."""
COMMON_SHARE = 0.2
COLUMNS = "uid, filename, size, digest, metadata, created_at, chunks"


class StoreFile:
    def __init__(self, path: Path, store_id: str) -> None:
        self._id = store_id
        self._writing = threading.Lock()
        self._reading = threading.Lock()
        self._writer: Db = connected(path)
        self._writer.execute(SCHEMA)
        self._reader: Db = connected(path)
        self.dimensions = self._dimensions(self._reader)
        """0 until the first vector is in."""
        self.tally = counted(self._reader)

    def close(self) -> None:
        with self._writing, self._reading:
            self._reader.close()
            self._writer.close()

    # Changes.

    def put(self, indexed: Indexed) -> tuple[list[int], list[Row]]:
        """The numbers of documents that it replaced, and its own vectors.

        Raises Conflict for vectors of another size.
        """
        with self._transaction() as db:
            if indexed.vectors:
                self._fit_vectors(db, len(indexed.vectors[0]) // FLOAT)
            document = indexed.document
            same = db.execute(
                "select id from documents where uid = ? or filename = ?", (document.id, document.filename)
            )
            replaced = [int(number) for (number,) in same.fetchall()]
            for number in replaced:
                self._remove(db, number)
            number = self._insert_document(db, indexed)
            rows: list[Row] = []
            for chunk, vector in zip(indexed.chunks, indexed.vectors, strict=True):
                (chunk_id,) = only(
                    db.execute(
                        "insert into chunks (document, start, stop, page, text) values (?, ?, ?, ?, ?) returning id",
                        (number, chunk.start, chunk.end, chunk.page, chunk.text),
                    )
                )
                db.execute("insert into vectors (rowid, embedding) values (?, ?)", (chunk_id, vector))
                db.execute("insert into words (rowid, terms) values (?, ?)", (chunk_id, fold_text(chunk.text)))
                rows.append(Row(chunk_id, number, vector))
        return replaced, rows

    def remove(self, document_id: str) -> int | None:
        """The number of the document that is gone."""
        with self._transaction() as db:
            found = db.execute("select id from documents where uid = ?", (document_id,)).fetchall()
            if not found:
                return None
            number = int(found[0][0])
            self._remove(db, number)
        return number

    def _insert_document(self, db: Db, indexed: Indexed) -> int:
        document, parsed = indexed.document, indexed.parsed
        (number,) = only(
            db.execute(
                f"insert into documents ({COLUMNS}, title)"  # noqa: S608 - a constant
                " values (?, ?, ?, ?, ?, ?, ?, ?) returning id",
                (
                    document.id,
                    document.filename,
                    document.size,
                    document.digest,
                    orjson.dumps(dict(document.metadata)).decode(),
                    document.created_at.isoformat(),
                    len(indexed.chunks),
                    parsed.title,
                ),
            )
        )
        pages = orjson.dumps([(page.number, page.start, page.end) for page in parsed.pages]).decode()
        db.execute("insert into texts (document, text, pages) values (?, ?, ?)", (number, parsed.text, pages))
        return int(number)

    def _remove(self, db: Db, number: int) -> None:
        for table in ("vectors", "words"):
            if table == "words" or self.dimensions:
                db.execute(
                    f"delete from {table} where rowid in (select id from chunks where document = ?)",  # noqa: S608
                    (number,),
                )
        for table, column in (("chunks", "document"), ("texts", "document"), ("documents", "id")):
            db.execute(f"delete from {table} where {column} = ?", (number,))  # noqa: S608 - constants

    def _fit_vectors(self, db: Db, dimensions: int) -> None:
        if not self.dimensions:
            db.execute(f"create virtual table vectors using vec0(embedding float[{dimensions}] distance_metric=cosine)")
            db.execute("insert into facts (name, value) values ('dimensions', ?)", (dimensions,))
            self.dimensions = dimensions
        elif dimensions != self.dimensions:
            raise Conflict(
                f"This store's vectors have {self.dimensions} numbers, but its model now makes {dimensions}",
                hint="Make a new store, or put the model back that this one was made with",
            )

    # Reading.

    def documents(self) -> tuple[Document, ...]:
        with self._reading:
            rows = self._reader.execute(f"select {COLUMNS} from documents order by id").fetchall()  # noqa: S608
        return tuple(self._as_document(row) for row in rows)

    def text(self, document_id: str) -> Parsed | None:
        query = "select text, pages, title from texts join documents on id = document where uid = ?"
        with self._reading:
            rows = self._reader.execute(query, (document_id,)).fetchall()
        return as_parsed(rows[0]) if rows else None

    def same(self, digest: str) -> Indexed | None:
        with self._reading:
            db = self._reader
            rows = db.execute(
                f"select {COLUMNS}, id from documents where digest = ?",  # noqa: S608 - a constant
                (digest,),
            ).fetchall()
            if not rows:
                return None
            number = rows[0][-1]
            text = only(
                db.execute(
                    "select text, pages, title from texts join documents on id = document where document = ?", (number,)
                )
            )
            chunks = db.execute(
                "select start, stop, page, text, embedding from chunks join vectors on vectors.rowid = chunks.id"
                " where document = ? order by chunks.id",
                (number,),
            ).fetchall()
        cut = tuple(Chunk(start, stop, text, page) for start, stop, page, text, _ in chunks)
        return Indexed(self._as_document(rows[0][:-1]), as_parsed(text), cut, tuple(bytes(row[-1]) for row in chunks))

    def chosen(self, where: Metadata) -> list[int] | None:
        """Numbers of the documents with that metadata; None for all."""
        if not where:
            return None
        with self._reading:
            rows = self._reader.execute("select id, metadata from documents").fetchall()
        return [number for number, metadata in rows if fit_metadata(orjson.loads(metadata), where)]

    def scan(self, vector: bytes, most: int, documents: Sequence[int] | None) -> tuple[Scored, ...]:
        """The nearest by sqlite-vec's own scan of the file."""
        query = "select rowid, distance from vectors where embedding match ? and k = ?"
        given: tuple[Any, ...] = (vector, most)
        if documents is not None:
            query += " and rowid in (select id from chunks where document in (select value from json_each(?)))"
            given = (*given, orjson.dumps(documents).decode())
        with self._reading:
            if not self.dimensions or len(vector) != self.dimensions * FLOAT:
                return ()
            rows = self._reader.execute(f"{query} order by distance", given).fetchall()
        return tuple(Scored(chunk_id, 1 - distance) for chunk_id, distance in rows)

    def vectors(self) -> Iterator[Row]:
        query = "select vectors.rowid, document, embedding from vectors join chunks on chunks.id = vectors.rowid"
        with self._reading:
            for chunk_id, document, vector in self._reader.execute(query):
                yield Row(chunk_id, document, vector)

    def matching(self, terms: Sequence[str], most: int, documents: Sequence[int] | None) -> tuple[Scored, ...]:
        with self._reading:
            telling = self._telling(terms)
            if not telling:
                return ()
            query = "select rowid, bm25(words) from words where words match ?"
            given: tuple[Any, ...] = (" OR ".join(f'"{term}"' for term in telling),)
            if documents is not None:
                query += " and rowid in (select id from chunks where document in (select value from json_each(?)))"
                given = (*given, orjson.dumps(documents).decode())
            rows = self._reader.execute(f"{query} order by rank limit ?", (*given, most)).fetchall()
        return tuple(Scored(chunk_id, -rank) for chunk_id, rank in rows)

    def _telling(self, terms: Sequence[str]) -> list[str]:
        """Without terms that stand nearly everywhere, unless all do: they cost the most and tell the least."""
        most = max(RARE, self.tally.chunks * COMMON_SHARE)
        stem = self._reader.fts5_tokenizer(*STEMMER)
        counts: dict[str, int] = {}
        for term in terms:
            stems = stem(term.encode(), apsw.FTS5_TOKENIZE_QUERY, None, include_offsets=False, include_colocated=False)
            for one in stems:
                found = self._reader.execute("select doc from vocabulary where term = ?", (one,)).fetchall()
                counts[term] = max(counts.get(term, 0), found[0][0] if found else 0)
        there = {term: count for term, count in counts.items() if count}
        rare = [term for term, count in there.items() if count <= most]
        return rare or sorted(there, key=lambda term: there[term])[:1]

    def found(self, chunk_ids: Sequence[int], vector: bytes) -> tuple[Found, ...]:
        query = (
            "select chunks.start, chunks.stop, chunks.page, chunks.text, documents.uid, documents.filename,"
            " documents.metadata from chunks join documents on documents.id = chunks.document where chunks.id = ?"
        )
        there: list[Found] = []
        with self._reading:
            for chunk_id in chunk_ids:
                rows = self._reader.execute(query, (chunk_id,)).fetchall()
                # Not joined: sqlite-vec looks a row up quickly only where its number stands in the query itself.
                own = self._reader.execute("select embedding from vectors where rowid = ?", (chunk_id,)).fetchall()
                for (start, stop, page, text, uid, name, metadata), (embedding,) in zip(rows, own, strict=False):
                    chunk = Chunk(start, stop, text, page)
                    similarity = cosine(bytes(embedding), vector)
                    there.append(Found(chunk_id, chunk, uid, name, orjson.loads(metadata), similarity))
        return tuple(there)

    def _as_document(self, row: tuple[Any, ...]) -> Document:
        uid, filename, size, digest, metadata, created_at, chunks = row
        return Document(
            id=uid,
            store_id=self._id,
            filename=filename,
            size=size,
            digest=digest,
            created_at=datetime.fromisoformat(created_at),
            metadata=orjson.loads(metadata),
            status=Status.INDEXED,
            chunks=chunks,
            progress=1.0,
        )

    @contextmanager
    def _transaction(self) -> Generator[Db]:
        with self._writing:
            before = self.dimensions
            self._writer.execute("begin immediate")
            try:
                yield self._writer
                tally = counted(self._writer)
                self._writer.execute("commit")
                self.tally = tally
            except BaseException:
                # On a full disk SQLite has taken it back itself.
                if not self._writer.getautocommit():
                    self._writer.execute("rollback")
                self.dimensions = before
                raise

    def _dimensions(self, db: Db) -> int:
        rows = db.execute("select value from facts where name = 'dimensions'").fetchall()
        return int(rows[0][0]) if rows else 0


def connected(path: Path) -> Db:
    db: Db = apsw.Connection(str(path))
    db.set_busy_timeout(BUSY_MS)
    db.enable_load_extension(True)  # noqa: FBT003 - apsw's signature
    db.load_extension(sqlite_vec.loadable_path())
    db.enable_load_extension(False)  # noqa: FBT003 - apsw's signature
    for pragma in ("journal_mode=wal", "synchronous=full", f"cache_size=-{CACHE_KIB}"):
        db.execute(f"pragma {pragma}")
    return db


def counted(db: Db) -> Tally:
    return Tally(*only(db.execute("select count(*), coalesce(sum(chunks), 0) from documents")))


def only(cursor: Any) -> tuple[Any, ...]:
    (row,) = cursor.fetchall()
    return row


def as_parsed(row: tuple[Any, ...]) -> Parsed:
    text, pages, title = row
    return Parsed(text, tuple(Page(*page) for page in orjson.loads(pages)), title)
