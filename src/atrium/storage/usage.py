"""Usage in the database: every request for a while, sums by the hour for ever. Implements `core.ports.UsageStore`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Table, delete, func, insert, literal, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from atrium.core.usage import HOUR, DoorHits, Span, Sums, UsageRecord, UsageRow
from atrium.storage.database import Database, fitted
from atrium.storage.tables import usage, usage_doors, usage_hours

ADDED = ("requests", "failures", "prompt_tokens", "completion_tokens", "seconds")
LONGEST_MODEL = 200
LONGEST_ENDPOINT = 100


class StoredUsage:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def write(self, records: Sequence[UsageRecord]) -> None:
        """All or none of them."""
        metered = [record for record in records if record.requests or tokens_of(record)]
        async with self._database.writing() as connection:
            if metered:
                await connection.execute(insert(usage), [raw_row(record) for record in metered])
                await self._add(connection, usage_hours, hour_rows(metered), ADDED)
            await self._add(
                connection, usage_doors, door_rows([record for record in records if record.hits]), ("hits",)
            )

    async def _add(
        self, connection: AsyncConnection, table: Table, rows: Sequence[Mapping[str, Any]], added: Iterable[str]
    ) -> None:
        """Rows whose sums are added to those that are there. In one order always, so that two writers never wait for
        each other."""
        if not rows:
            return
        make = sqlite.insert if self._database.sqlite else postgresql.insert
        new = make(table)
        changes: dict[str, Any] = {name: table.c[name] + new.excluded[name] for name in added}
        if "last_at" in table.c:
            changes["last_at"] = new.excluded["last_at"]
        keys = [column.name for column in table.primary_key]
        await connection.execute(new.on_conflict_do_update(index_elements=keys, set_=changes), list(rows))

    async def forget(self, before: datetime) -> None:
        async with self._database.writing() as connection:
            await connection.execute(delete(usage).where(usage.c.at < before))

    async def rows(self, span: Span, limit: int, after: UsageRow | None = None) -> tuple[UsageRow, ...]:
        hours = usage_hours.c
        order = (hours.hour, hours.user_id, hours.key_id, hours.model, hours.door)
        query = select(usage_hours).where(*within(span)).limit(limit).order_by(*order)
        if after is not None:
            last = (after.hour, after.user_id, after.key_id, after.model, after.door)
            query = query.where(
                tuple_(*order) > tuple_(*(literal(at, kind.type) for at, kind in zip(last, order, strict=True)))
            )
        async with self._database.reading() as connection:
            found = (await connection.execute(query)).all()
        return tuple(
            UsageRow(row.hour, row.door, row.user_id, row.key_id, row.model, Sums(*(getattr(row, a) for a in ADDED)))
            for row in found
        )

    async def by(self, field: str, span: Span, limit: int) -> tuple[tuple[Any, Sums], ...]:
        """Sums for each value of a column of the hours, the busiest first; of `hour` in order."""
        column = usage_hours.c[field]
        sums = [func.sum(usage_hours.c[name]) for name in ADDED]
        query = select(column, *sums).where(*within(span)).group_by(column).limit(limit)
        query = query.order_by(column) if field == "hour" else query.order_by(sums[0].desc(), column)
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).all()
        return tuple((row[0], sums_of(row[1:])) for row in rows)

    async def doors(self) -> tuple[DoorHits, ...]:
        async with self._database.reading() as connection:
            rows = (await connection.execute(select(usage_doors).order_by(usage_doors.c.hits.desc()))).all()
        return tuple(DoorHits(row.door, row.user_id, row.hits, row.last_at) for row in rows)

    async def reset_doors(self) -> None:
        async with self._database.writing() as connection:
            await connection.execute(delete(usage_doors))


def within(span: Span) -> list[ColumnElement[bool]]:
    hours = usage_hours.c
    bounds = [hours.hour >= span.since, hours.hour < span.until]
    if span.user_id is not None:
        bounds.append(hours.user_id == span.user_id)
    if span.key_id is not None:
        bounds.append(hours.key_id == span.key_id)
    if span.model is not None:
        bounds.append(hours.model == fitted(span.model, LONGEST_MODEL))
    return bounds


def sums_of(row: Sequence[Any]) -> Sums:
    requests, failures, prompt, completion, seconds = (value or 0 for value in row)
    return Sums(int(requests), int(failures), int(prompt), int(completion), float(seconds))


def raw_row(record: UsageRecord) -> dict[str, Any]:
    return {
        "at": datetime.fromtimestamp(record.at, UTC),
        "door": record.door,
        "user_id": record.user_id,
        "key_id": record.key_id,
        "model": fitted(record.model, LONGEST_MODEL),
        "endpoint": fitted(record.endpoint, LONGEST_ENDPOINT),
        "requests": record.requests,
        "failures": record.failures,
        "prompt_tokens": record.prompt_tokens,
        "completion_tokens": record.completion_tokens,
        "seconds": record.seconds,
        "exact": record.exact,
    }


def tokens_of(record: UsageRecord) -> int:
    return record.prompt_tokens + record.completion_tokens


def hour_rows(records: Iterable[UsageRecord]) -> list[dict[str, Any]]:
    found: dict[tuple[float, str, int, int, str], list[float]] = {}
    for record in records:
        hour = record.at - record.at % HOUR
        key = (hour, record.door, record.user_id, record.key_id, fitted(record.model, LONGEST_MODEL))
        sums = found.setdefault(key, [0, 0, 0, 0, 0.0])
        for place, name in enumerate(ADDED):
            sums[place] += getattr(record, name)
    return [
        {
            "hour": datetime.fromtimestamp(key[0], UTC),
            **dict(zip(("door", "user_id", "key_id", "model"), key[1:], strict=True)),
            **dict(zip(ADDED, sums, strict=True)),
        }
        for key, sums in sorted(found.items())
    ]


def door_rows(records: Iterable[UsageRecord]) -> list[dict[str, Any]]:
    found: dict[tuple[str, int], tuple[int, float]] = {}
    for record in records:
        hits, last = found.get((record.door, record.user_id), (0, 0.0))
        found[(record.door, record.user_id)] = (hits + record.hits, max(last, record.at))
    return [
        {"door": door, "user_id": user_id, "hits": hits, "last_at": datetime.fromtimestamp(last, UTC)}
        for (door, user_id), (hits, last) in sorted(found.items())
    ]
