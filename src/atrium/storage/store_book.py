"""Stores and their shares in the database. Implements `core.document_ports.StoreBook`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from atrium.core.documents import Permission, Reached, Share, Store, StoreChange
from atrium.core.errors import Conflict, NotFound
from atrium.storage.database import Database
from atrium.storage.document_tables import store_shares, stores
from atrium.storage.people import in_turn
from atrium.storage.tables import users


class StoredStores:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, store: Store, most: int) -> Store:
        values = {
            "id": store.id,
            "owner_id": store.owner_id,
            "name": store.name,
            "description": store.description,
            "vectorizer": store.vectorizer,
            "is_public": store.is_public,
            "chunk_size": store.chunk_size,
            "chunk_overlap": store.chunk_overlap,
            "created_at": store.created_at,
            "updated_at": store.updated_at,
        }
        own = select(func.count()).select_from(stores).where(stores.c.owner_id == store.owner_id)
        try:
            async with self._database.writing() as connection:
                await in_turn(connection, store.owner_id)
                await connection.execute(insert(stores).values(values))
                if (await connection.execute(own)).scalar_one() > most:
                    raise Conflict(f"You have {most} stores already", hint="Delete one first")
        except IntegrityError:
            raise taken(store.name) from None
        return store

    async def reach(self, store_id: str, user_id: int | None) -> tuple[Store, Permission | None] | None:
        async with self._database.reading() as connection:
            row = (await connection.execute(reaching(user_id).where(stores.c.id == store_id))).one_or_none()
        return (as_store(row), permission_of(row, user_id)) if row else None

    async def listed(self, user_id: int | None) -> tuple[Reached, ...]:
        seen = or_(stores.c.owner_id == user_id, stores.c.is_public, store_shares.c.permission.is_not(None))
        query = reaching(user_id).where(seen).order_by(stores.c.name, stores.c.id)
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).all()
        found = ((as_store(row), permission_of(row, user_id)) for row in rows)
        return tuple(Reached(store, permission) for store, permission in found if permission is not None)

    async def all(self) -> tuple[Store, ...]:
        async with self._database.reading() as connection:
            rows = (await connection.execute(reaching(None).order_by(stores.c.name, stores.c.id))).all()
        return tuple(as_store(row) for row in rows)

    async def change(self, store_id: str, change: StoreChange, now: datetime) -> Store:
        given = {"name": change.name, "description": change.description, "is_public": change.is_public}
        values = {name: value for name, value in given.items() if value is not None}
        query = update(stores).where(stores.c.id == store_id).values(**values, updated_at=now)
        try:
            async with self._database.writing() as connection:
                await connection.execute(query)
                row = (await connection.execute(reaching(None).where(stores.c.id == store_id))).one_or_none()
        except IntegrityError:
            raise taken(change.name or "") from None
        if row is None:
            raise NotFound("There is no such store")
        return as_store(row)

    async def touch(self, store_id: str, now: datetime) -> None:
        async with self._database.writing() as connection:
            await connection.execute(update(stores).where(stores.c.id == store_id).values(updated_at=now))

    async def delete(self, store_id: str) -> None:
        async with self._database.writing() as connection:
            query = delete(stores).where(stores.c.id == store_id).returning(stores.c.id)
            if (await connection.execute(query)).one_or_none() is None:
                raise NotFound("There is no such store")

    async def share(self, store_id: str, user_id: int, permission: Permission) -> None:
        mine = (store_shares.c.store_id == store_id) & (store_shares.c.user_id == user_id)
        row = {"store_id": store_id, "user_id": user_id, "permission": permission.value}
        try:
            async with self._database.writing() as connection:
                await connection.execute(delete(store_shares).where(mine))
                await connection.execute(insert(store_shares).values(row))
        except IntegrityError:
            raise NotFound("The store or the user is gone") from None

    async def unshare(self, store_id: str, user_id: int) -> bool:
        mine = (store_shares.c.store_id == store_id) & (store_shares.c.user_id == user_id)
        async with self._database.writing() as connection:
            query = delete(store_shares).where(mine).returning(store_shares.c.user_id)
            return (await connection.execute(query)).one_or_none() is not None

    async def shares(self, store_id: str) -> tuple[Share, ...]:
        query = (
            select(store_shares.c.user_id, users.c.name, store_shares.c.permission)
            .join(users, users.c.id == store_shares.c.user_id)
            .where(store_shares.c.store_id == store_id)
            .order_by(users.c.name)
        )
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).all()
        return tuple(Share(row.user_id, row.name, Permission(row.permission)) for row in rows)


def reaching(user_id: int | None) -> Select[Any]:
    """Stores with their owner's name and what is shared with the user."""
    shared = (store_shares.c.store_id == stores.c.id) & (store_shares.c.user_id == user_id)
    return (
        select(stores, users.c.name.label("owner"), store_shares.c.permission)
        .join(users, users.c.id == stores.c.owner_id)
        .outerjoin(store_shares, shared)
    )


def permission_of(row: Row[Any], user_id: int | None) -> Permission | None:
    if user_id is not None and row.owner_id == user_id:
        return Permission.OWNER
    if row.permission is not None:
        return Permission(row.permission)
    return Permission.PUBLIC if row.is_public else None


def as_store(row: Row[Any]) -> Store:
    return Store(
        id=row.id,
        owner_id=row.owner_id,
        owner=row.owner,
        name=row.name,
        description=row.description,
        vectorizer=row.vectorizer,
        is_public=row.is_public,
        chunk_size=row.chunk_size,
        chunk_overlap=row.chunk_overlap,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def taken(name: str) -> Conflict:
    return Conflict(f"You have a store named '{name}' already", param="name")
