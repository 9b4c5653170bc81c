"""The audit log in the database. Implements `core.ports.AuditLog`."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Row, delete, func, insert, or_, select

from atrium.core.people import Act, Acts
from atrium.storage.database import Database, fitted
from atrium.storage.people import LARGEST_ID
from atrium.storage.tables import audit

LONGEST_ACTOR = 64
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
            "address": fitted(act.address, LONGEST_ADDRESS),
            "action": fitted(act.action, LONGEST),
            "detail": fitted(act.detail, LONGEST),
        }
        async with self._database.writing() as connection:
            number: int = (await connection.execute(insert(audit).values(values).returning(audit.c.id))).scalar_one()
            if number % SWEEP == 0:
                await connection.execute(delete(audit).where(audit.c.id <= number - self._most))

    async def newest(self, acts: Acts, limit: int) -> tuple[Act, ...]:
        query = select(audit).where(*among(acts)).order_by(audit.c.id.desc()).limit(limit)
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).all()
        return tuple(as_act(row) for row in rows)


def among(acts: Acts) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if acts.before is not None:
        found.append(audit.c.id < min(acts.before, LARGEST_ID))
    if acts.actor:
        found.append(func.lower(audit.c.actor) == fitted(acts.actor, LONGEST_ACTOR).lower())
    if acts.action:
        columns = (audit.c.action, audit.c.detail)
        found.append(or_(*(column.icontains(fitted(acts.action, LONGEST), autoescape=True) for column in columns)))
    if acts.since is not None:
        found.append(audit.c.at >= acts.since)
    if acts.until is not None:
        found.append(audit.c.at < acts.until)
    return found


def as_act(row: Row[Any]) -> Act:
    return Act(row.at, row.actor, row.actor_id, row.address, row.action, row.detail, row.id)
