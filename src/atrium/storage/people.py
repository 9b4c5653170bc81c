"""Users in the database. Implements `core.ports.UserBook`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from atrium.core.errors import Conflict, NotFound
from atrium.core.people import User, UserChange
from atrium.storage.database import Database
from atrium.storage.tables import users

LARGEST_ID = 2**31 - 1
LONGEST_NAME = 64


def is_id(number: int) -> bool:
    """Whether it could be one; PostgreSQL's driver refuses to look for what its column cannot hold."""
    return 0 < number <= LARGEST_ID


class StoredUsers:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, name: str, *, password_hash: str | None, is_admin: bool, now: datetime) -> User:
        values = {
            "name": name,
            "folded": name.casefold(),
            "password_hash": password_hash,
            "is_admin": is_admin,
            "is_active": True,
            "created_at": now,
        }
        try:
            async with self._database.writing() as connection:
                row = (await connection.execute(insert(users).values(values).returning(users))).one()
        except IntegrityError:
            raise Conflict(f"There is a user '{name}' already", param="username") from None
        return as_user(row)

    async def find(self, name: str) -> User | None:
        if len(name) > LONGEST_NAME or not name.isprintable():
            return None
        async with self._database.reading() as connection:
            row = (await connection.execute(select(users).where(users.c.folded == name.casefold()))).one_or_none()
        return as_user(row) if row else None

    async def by_id(self, user_id: int) -> User | None:
        if not is_id(user_id):
            return None
        async with self._database.reading() as connection:
            row = (await connection.execute(select(users).where(users.c.id == user_id))).one_or_none()
        return as_user(row) if row else None

    async def all(self) -> tuple[User, ...]:
        async with self._database.reading() as connection:
            rows = (await connection.execute(select(users).order_by(users.c.id))).all()
        return tuple(as_user(row) for row in rows)

    async def change(self, user_id: int, change: UserChange) -> User:
        given = {
            "password_hash": change.password_hash,
            "is_active": change.is_active,
            "is_admin": change.is_admin,
        }
        values = {name: value for name, value in given.items() if value is not None}
        async with self._database.writing() as connection:
            await self._locked(connection, user_id)
            if values:
                query = update(users).where(users.c.id == user_id).values(values)
                if change.instead_of is not None:
                    query = query.where(users.c.password_hash == change.instead_of)
                if not (await connection.execute(query)).rowcount:
                    raise Conflict("The password has been changed meanwhile", hint="Ask again with the new one")
            await self._keep_an_admin(connection)
            row = (await connection.execute(select(users).where(users.c.id == user_id))).one()
        return as_user(row)

    async def delete(self, user_id: int) -> None:
        async with self._database.writing() as connection:
            await self._locked(connection, user_id)
            await connection.execute(delete(users).where(users.c.id == user_id))
            await self._keep_an_admin(connection)

    async def _locked(self, connection: AsyncConnection, user_id: int) -> None:
        """Changes to administrators happen one after the other, or two could remove each other's last but one."""
        if not is_id(user_id):
            raise NotFound(f"There is no user with the id {user_id}")
        admins = select(users.c.id).where(users.c.is_admin).order_by(users.c.id).with_for_update()
        await connection.execute(admins)
        if (await connection.execute(select(users.c.id).where(users.c.id == user_id))).one_or_none() is None:
            raise NotFound(f"There is no user with the id {user_id}")

    async def _keep_an_admin(self, connection: AsyncConnection) -> None:
        active = select(func.count()).select_from(users).where(users.c.is_admin, users.c.is_active)
        if not (await connection.execute(active)).scalar_one():
            raise Conflict("This is the last active administrator", hint="Make somebody else one first")


async def in_turn(connection: AsyncConnection, user_id: int) -> None:
    """What is made for one user is made one after the other, so that many at once are counted right.

    Raises NotFound.
    """
    own = select(users.c.id).where(users.c.id == user_id).with_for_update(key_share=True)
    if (await connection.execute(own)).one_or_none() is None:
        raise NotFound(f"There is no user with the id {user_id}")


def as_user(row: Row[Any]) -> User:
    return User(row.id, row.name, row.is_admin, row.is_active, row.created_at, row.password_hash)
