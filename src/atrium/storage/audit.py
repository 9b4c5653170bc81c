"""The audit log in the database. Implements `core.ports.AuditLog`."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, delete, insert, select

from atrium.core.people import Act
from atrium.storage.database import Database
from atrium.storage.tables import audit

LONGEST_ADDRESS = 64
LONGEST = 300
SWEEP = 100
"""Acts between two looks at how many there are."""


class StoredAudit:
    def __init__(self, database: Database, most: int) -> None:
        self._database = database
        self._most = most

    async def add(self, act: Act) -> None:
        values = {
            "at": act.at,
            "actor": act.actor,
            "actor_id": act.actor_id,
            "address": act.address[:LONGEST_ADDRESS],
            "action": act.action[:LONGEST],
            "detail": act.detail[:LONGEST],
        }
        async with self._database.writing() as connection:
            number: int = (await connection.execute(insert(audit).values(values).returning(audit.c.id))).scalar_one()
            if number % SWEEP == 0:
                await connection.execute(delete(audit).where(audit.c.id <= number - self._most))

    async def newest(self, *, before: int | None, limit: int) -> tuple[Act, ...]:
        query = select(audit).order_by(audit.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(audit.c.id < before)
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).all()
        return tuple(as_act(row) for row in rows)


def as_act(row: Row[Any]) -> Act:
    return Act(row.at, row.actor, row.actor_id, row.address, row.action, row.detail, row.id)
