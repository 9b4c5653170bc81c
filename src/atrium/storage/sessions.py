"""Sessions in the database, without their tokens. Implements `core.ports.SessionBook`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, insert, select
from sqlalchemy.exc import IntegrityError

from atrium.core.errors import NotFound
from atrium.core.people import Session, User
from atrium.storage.database import Database
from atrium.storage.tables import sessions, users


class StoredSessions:
    def __init__(self, database: Database, most: int = 100) -> None:
        self._database = database
        self._most = most
        """Sessions of one user; of more the oldest end."""

    async def add(self, *, user_id: int, mac: bytes, now: datetime, until: datetime) -> Session:
        values = {"user_id": user_id, "mac": mac, "created_at": now, "expires_at": until}
        own = sessions.c.user_id == user_id
        newest = select(sessions.c.id).where(own).order_by(sessions.c.id.desc()).limit(self._most)
        try:
            async with self._database.writing() as connection:
                row = (await connection.execute(insert(sessions).values(values).returning(sessions))).one()
                kept = (await connection.execute(newest)).scalars().all()
                if len(kept) == self._most:
                    await connection.execute(delete(sessions).where(own, sessions.c.id < kept[-1]))
        except IntegrityError:
            raise NotFound("The user is gone") from None
        return as_session(row)

    async def find(self, mac: bytes) -> tuple[Session, User] | None:
        owner = [column.label(f"user_{column.name}") for column in users.c if column.name != "id"]
        query = select(sessions, *owner).join(users, users.c.id == sessions.c.user_id).where(sessions.c.mac == mac)
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).one_or_none()
        if row is None:
            return None
        user = User(row.user_id, row.user_name, row.user_is_admin, row.user_is_active, row.user_created_at)
        return as_session(row), user

    async def end(self, session_id: int) -> None:
        async with self._database.writing() as connection:
            await connection.execute(delete(sessions).where(sessions.c.id == session_id))

    async def end_all(self, user_id: int, *, but: int | None = None) -> None:
        query = delete(sessions).where(sessions.c.user_id == user_id)
        if but is not None:
            query = query.where(sessions.c.id != but)
        async with self._database.writing() as connection:
            await connection.execute(query)

    async def forget_expired(self, now: datetime) -> None:
        async with self._database.writing() as connection:
            await connection.execute(delete(sessions).where(sessions.c.expires_at <= now))


def as_session(row: Row[Any]) -> Session:
    return Session(row.id, row.user_id, row.created_at, row.expires_at)
