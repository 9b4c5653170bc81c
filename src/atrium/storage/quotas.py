"""Quotas in the database. Implements `core.ports.QuotaBook`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

from sqlalchemy import Row, delete, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from atrium.core.errors import NotFound
from atrium.core.quotas import Measure, Period, Quota, Subject
from atrium.storage.database import Database
from atrium.storage.people import is_id
from atrium.storage.tables import quotas, usage_hours


class StoredQuotas:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> tuple[Quota, ...]:
        async with self._database.reading() as connection:
            rows = (await connection.execute(select(quotas).order_by(quotas.c.id))).all()
        return tuple(as_quota(row) for row in rows)

    async def put(self, subject: Subject, measure: Measure, period: Period, amount: int) -> Quota:
        same = {
            "user_id": subject.user_id,
            "key_id": subject.key_id,
            "model": subject.model,
            "each_user": subject.each_user,
            "measure": measure.value,
            "period": period.value,
        }
        before = [quotas.c[name].is_not_distinct_from(value) for name, value in same.items()]
        change = update(quotas).where(*before).values(amount=amount).returning(quotas)
        new = insert(quotas).values(amount=amount, **same).returning(quotas)
        try:
            async with self._database.writing() as connection:
                if not self._database.sqlite:
                    # Two that set the same at once would each find nothing to change.
                    await connection.execute(text("lock table quotas in share row exclusive mode"))
                row = (await connection.execute(change)).first()
                row = row or (await connection.execute(new)).one()
        except IntegrityError:
            raise NotFound("There is no such user or key") from None
        return as_quota(row)

    async def remove(self, quota_id: int) -> None:
        gone = 0
        if is_id(quota_id):
            async with self._database.writing() as connection:
                gone = (await connection.execute(delete(quotas).where(quotas.c.id == quota_id))).rowcount
        if not gone:
            raise NotFound(f"There is no quota with the id {quota_id}")

    async def spent(self, quota: Quota, since: float) -> Mapping[int, int]:
        hours = usage_hours.c
        requests = func.sum(hours.requests - hours.failures)
        tokens = func.sum(hours.prompt_tokens + hours.completion_tokens)
        sums = requests if quota.measure is Measure.REQUESTS else tokens
        query = select(hours.user_id, hours.model, sums).where(hours.hour >= datetime.fromtimestamp(since, UTC))
        if quota.subject.user_id is not None:
            query = query.where(hours.user_id == quota.subject.user_id)
        if quota.subject.key_id is not None:
            query = query.where(hours.key_id == quota.subject.key_id)
        async with self._database.reading() as connection:
            rows = (await connection.execute(query.group_by(hours.user_id, hours.model))).all()
        spent: dict[int, int] = {}
        for user_id, model, amount in rows:
            if not quota.subject.model or fnmatchcase(model, quota.subject.model):
                who = user_id if quota.subject.each_user else 0
                spent[who] = spent.get(who, 0) + int(amount)
        return spent


def as_quota(row: Row[Any]) -> Quota:
    subject = Subject(row.user_id, row.key_id, row.model, row.each_user)
    return Quota(row.id, subject, Measure(row.measure), Period(row.period), row.amount)
