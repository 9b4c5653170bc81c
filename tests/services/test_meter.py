"""Quotas in force, on a book that takes its time."""

from __future__ import annotations

import asyncio

import pytest

from atrium.core.errors import RateLimited
from atrium.core.people import ANONYMOUS
from atrium.core.quotas import Measure, Period, Quota, Subject
from atrium.services.meter import Meter


class SlowToSum:
    """A book that takes its time to tell what was used."""

    def __init__(self) -> None:
        self.quotas: list[Quota] = []
        self.asked = asyncio.Event()
        self.tell = asyncio.Event()

    async def all(self) -> tuple[Quota, ...]:
        return tuple(self.quotas)

    async def put(self, subject: Subject, measure: Measure, period: Period, amount: int) -> Quota:
        self.quotas.append(Quota(len(self.quotas) + 1, subject, measure, period, amount))
        return self.quotas[-1]

    async def remove(self, quota_id: int) -> None:
        self.quotas = [one for one in self.quotas if one.id != quota_id]

    async def spent(self, quota: Quota, since: float) -> dict[int, int]:  # noqa: ARG002 - the port's
        self.asked.set()
        await self.tell.wait()
        return {}


async def test_a_quota_that_is_set_while_another_is_set_is_in_force_as_well() -> None:
    book = SlowToSum()
    meter = Meter(book)
    first = asyncio.create_task(meter.set(Subject(), Measure.REQUESTS, Period.DAY, 100))
    await book.asked.wait()
    second = asyncio.create_task(meter.set(Subject(), Measure.REQUESTS, Period.MINUTE, 0))
    for _ in range(20):
        await asyncio.sleep(0)
    book.tell.set()
    await asyncio.gather(first, second)
    assert [one.quota.amount for one in meter.standings()] == [100, 0]
    with pytest.raises(RateLimited):
        meter.enter(ANONYMOUS)
