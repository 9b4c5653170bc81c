"""Documents on their way into stores, in the database. Implements `core.document_ports.IngestBook`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from atrium.core.documents import Document, Ingest, Status
from atrium.core.errors import NotFound
from atrium.storage.database import Database
from atrium.storage.document_tables import ingests as table


class StoredIngests:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, ingests: Sequence[Ingest]) -> None:
        """Raises NotFound when the store is gone."""
        try:
            async with self._database.writing() as connection:
                for one in ingests:
                    same = (table.c.store_id == one.document.store_id) & (table.c.filename == one.document.filename)
                    await connection.execute(delete(table).where(same, table.c.status == Status.FAILED.value))
                    await connection.execute(insert(table).values(values_of(one)))
        except IntegrityError:
            raise NotFound("There is no such store") from None

    async def find(self, document_id: str) -> Ingest | None:
        async with self._database.reading() as connection:
            row = (await connection.execute(select(table).where(table.c.id == document_id))).one_or_none()
        return as_ingest(row) if row else None

    async def of_store(self, store_id: str) -> tuple[Document, ...]:
        query = select(table).where(table.c.store_id == store_id).order_by(table.c.number)
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).all()
        return tuple(as_ingest(row).document for row in rows)

    async def unfinished(self, home: str) -> tuple[Ingest, ...]:
        mine = (table.c.home == home) & (table.c.status == Status.PENDING.value)
        async with self._database.reading() as connection:
            rows = (await connection.execute(select(table).where(mine).order_by(table.c.number))).all()
        return tuple(as_ingest(row) for row in rows)

    async def fail(self, document_id: str, error: str) -> None:
        await self._set(document_id, Status.FAILED, error)

    async def retry(self, document_id: str) -> None:
        await self._set(document_id, Status.PENDING, "")

    async def remove(self, document_id: str) -> bool:
        query = delete(table).where(table.c.id == document_id).returning(table.c.id)
        async with self._database.writing() as connection:
            return (await connection.execute(query)).one_or_none() is not None

    async def _set(self, document_id: str, status: Status, error: str) -> None:
        query = update(table).where(table.c.id == document_id).values(status=status.value, error=error)
        async with self._database.writing() as connection:
            await connection.execute(query)


def values_of(ingest: Ingest) -> dict[str, object]:
    document = ingest.document
    return {
        "id": document.id,
        "store_id": document.store_id,
        "user_id": ingest.user_id,
        "key_id": ingest.key_id,
        "home": ingest.home,
        "filename": document.filename,
        "size": document.size,
        "digest": document.digest,
        "metadata": orjson.dumps(dict(document.metadata)).decode(),
        "status": document.status.value,
        "error": document.error,
        "created_at": document.created_at,
    }


def as_ingest(row: Row[Any]) -> Ingest:
    document = Document(
        id=row.id,
        store_id=row.store_id,
        filename=row.filename,
        size=row.size,
        digest=row.digest,
        created_at=row.created_at,
        metadata=orjson.loads(row.metadata),
        status=Status(row.status),
        error=row.error,
    )
    return Ingest(document, row.user_id, row.key_id, row.home)
