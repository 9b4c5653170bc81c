"""API keys in the database, without their secrets. Implements `core.ports.KeyBook`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Row, Select, bindparam, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from atrium.core.errors import Conflict, NotFound
from atrium.core.people import EVERYTHING, Key, NewKey, Scopes, User
from atrium.storage.database import Database
from atrium.storage.people import in_turn, is_id
from atrium.storage.tables import api_keys, users


class StoredKeys:
    def __init__(self, database: Database, most: int = 1000) -> None:
        self._database = database
        self._most = most
        """Keys of one user."""

    async def add(self, new: NewKey) -> Key:
        values = {
            "user_id": new.user_id,
            "alias": new.alias,
            "prefix": new.prefix,
            "mac": new.mac,
            "created_at": new.created_at,
            "expires_at": new.expires_at,
            "scopes": written(new.scopes),
        }
        own = select(func.count()).select_from(api_keys).where(api_keys.c.user_id == new.user_id)
        try:
            async with self._database.writing() as connection:
                await in_turn(connection, new.user_id)
                row = (await connection.execute(insert(api_keys).values(values).returning(api_keys))).one()
                if (await connection.execute(own)).scalar_one() > self._most:
                    raise Conflict(f"This user has {self._most} keys already", hint="Revoke one first")
        except IntegrityError:
            raise Conflict(f"This user has a key named '{new.alias}' already", param="alias") from None
        return as_key(row)

    async def find(self, prefix: str) -> tuple[Key, User] | None:
        async with self._database.reading() as connection:
            row = (await connection.execute(joined().where(api_keys.c.prefix == prefix))).one_or_none()
        return as_pair(row) if row else None

    async def all(self, user_id: int | None = None) -> tuple[tuple[Key, User], ...]:
        query = joined().order_by(api_keys.c.id)
        if user_id is not None:
            query = query.where(api_keys.c.user_id == user_id)
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).all()
        return tuple(as_pair(row) for row in rows)

    async def revoke(self, key_id: int, *, owner: int | None = None) -> Key:
        row = None
        if is_id(key_id):
            query = delete(api_keys).where(api_keys.c.id == key_id).returning(api_keys)
            if owner is not None:
                query = query.where(api_keys.c.user_id == owner)
            async with self._database.writing() as connection:
                row = (await connection.execute(query)).one_or_none()
        if row is None:
            raise NotFound(f"There is no key with the id {key_id}")
        return as_key(row)

    async def used(self, stamps: dict[int, datetime]) -> None:
        if not stamps:
            return
        query = update(api_keys).where(api_keys.c.id == bindparam("key_id")).values(last_used_at=bindparam("at"))
        async with self._database.writing() as connection:
            await connection.execute(query, [{"key_id": key_id, "at": at} for key_id, at in stamps.items()])


def joined() -> Select[Any]:
    owner = [column.label(f"user_{column.name}") for column in users.c if column.name != "id"]
    return select(api_keys, *owner).join(users, users.c.id == api_keys.c.user_id)


def as_key(row: Row[Any]) -> Key:
    return Key(
        row.id,
        row.user_id,
        row.alias,
        row.prefix,
        row.created_at,
        row.last_used_at,
        bytes(row.mac),
        row.expires_at,
        as_scopes(row.scopes),
    )


def as_pair(row: Row[Any]) -> tuple[Key, User]:
    user = User(
        row.user_id, row.user_name, row.user_is_admin, row.user_is_active, row.user_created_at, row.user_password_hash
    )
    return as_key(row), user


def written(scopes: Scopes) -> str | None:
    """As JSON; nothing where they set no bound."""
    if not scopes.narrow:
        return None
    return orjson.dumps({"models": scopes.models, "paths": scopes.paths}).decode()


def as_scopes(text: str | None) -> Scopes:
    if text is None:
        return EVERYTHING
    found = orjson.loads(text)
    return Scopes(tuple(found["models"]), tuple(found["paths"]))
