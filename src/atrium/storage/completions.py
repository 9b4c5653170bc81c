"""Kept completions in the database. Implements `core.ports.CompletionBook`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from atrium.core.completions import CompletionPage, CompletionQuery, KeptCompletion
from atrium.core.errors import InvalidValue
from atrium.storage.database import Database
from atrium.storage.tables import completion_metadata, completions


class StoredCompletions:
    def __init__(self, database: Database, most: int = 1000) -> None:
        self._database = database
        self._most = most
        """Completions of one owner; of more the oldest leave."""

    async def add(self, kept: KeptCompletion) -> None:
        values: dict[str, Any] = {
            "id": kept.id,
            "user_id": kept.owner,
            "created": kept.created,
            "model": kept.model,
            "answer": kept.answer,
            "messages": kept.messages,
        }
        adding = insert(completions).values(values).returning(completions.c.number)
        own = owned_by(kept.owner)
        too_many = select(completions.c.number).where(own).order_by(completions.c.number.desc()).offset(self._most)
        async with self._database.writing() as connection:
            number = (await connection.execute(adding)).scalar_one()
            await self._write(connection, number, kept.metadata)
            oldest = (await connection.execute(too_many.limit(1))).scalar()
            if oldest is not None:
                await connection.execute(delete(completions).where(own, completions.c.number <= oldest))

    async def find(self, owner: int | None, completion_id: str) -> KeptCompletion | None:
        query = select(completions).where(owned_by(owner), completions.c.id == completion_id)
        async with self._database.reading() as connection:
            found = await self._read(connection, query)
        return found[0] if found else None

    async def page(self, owner: int | None, query: CompletionQuery) -> CompletionPage:
        chosen = select(completions).where(owned_by(owner))
        if query.model:
            chosen = chosen.where(completions.c.model == query.model)
        for key, value in query.metadata.items():
            noted = completion_metadata.c
            chosen = chosen.where(
                select(noted.key)
                .where(noted.number == completions.c.number, noted.key == key, noted.value == value)
                .exists()
            )
        number = completions.c.number
        async with self._database.reading() as connection:
            for name, cursor in (("after", query.after), ("before", query.before)):
                if cursor:
                    at = await self._number(connection, owner, cursor, name)
                    # In the newest first, what comes after is older.
                    chosen = chosen.where(number < at if (name == "after") is query.newest_first else number > at)
            ordered = chosen.order_by(number.desc() if query.newest_first else number).limit(query.most + 1)
            found = await self._read(connection, ordered)
        return CompletionPage(tuple(found[: query.most]), len(found) > query.most)

    async def note(self, owner: int | None, completion_id: str, metadata: Mapping[str, str]) -> bool:
        known = select(completions.c.number).where(owned_by(owner), completions.c.id == completion_id)
        async with self._database.writing() as connection:
            number = (await connection.execute(known)).scalar()
            if number is None:
                return False
            await connection.execute(delete(completion_metadata).where(completion_metadata.c.number == number))
            await self._write(connection, number, metadata)
        return True

    async def delete(self, owner: int | None, completion_id: str) -> bool:
        gone = delete(completions).where(owned_by(owner), completions.c.id == completion_id)
        async with self._database.writing() as connection:
            return (await connection.execute(gone.returning(completions.c.number))).scalar() is not None

    async def _write(self, connection: AsyncConnection, number: int, metadata: Mapping[str, str]) -> None:
        rows = [{"number": number, "key": key, "value": value} for key, value in metadata.items()]
        if rows:
            await connection.execute(insert(completion_metadata), rows)

    async def _number(self, connection: AsyncConnection, owner: int | None, cursor: str, name: str) -> int:
        query = select(completions.c.number).where(owned_by(owner), completions.c.id == cursor)
        number = (await connection.execute(query)).scalar()
        if number is None:
            raise InvalidValue(f"'{name}' is none of your completions", param=name)
        return number

    async def _read(self, connection: AsyncConnection, query: Select[Any]) -> list[KeptCompletion]:
        rows = (await connection.execute(query)).all()
        noted: dict[int, dict[str, str]] = defaultdict(dict)
        if rows:
            numbers = [row.number for row in rows]
            chosen = select(completion_metadata).where(completion_metadata.c.number.in_(numbers))
            for number, key, value in await connection.execute(chosen):
                noted[number][key] = value
        return [as_kept(row, noted[row.number]) for row in rows]


def owned_by(owner: int | None) -> ColumnElement[bool]:
    return completions.c.user_id.is_(None) if owner is None else completions.c.user_id == owner


def as_kept(row: Row[Any], metadata: Mapping[str, str]) -> KeptCompletion:
    return KeptCompletion(row.id, row.user_id, row.created, row.model, bytes(row.answer), bytes(row.messages), metadata)
