"""Quotas and usage on both databases: exact among two hundred at once, and remembered by a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from atrium.app.parts import kept_fresh
from atrium.core.errors import NotFound, RateLimited
from atrium.core.people import ANONYMOUS, CONTROL, Caller, User
from atrium.core.quotas import Measure, Period, Quota, Subject, Worst
from atrium.core.usage import Span, Sums, UsageRecord
from atrium.services.meter import Meter
from atrium.services.read_usage import ReadUsage
from atrium.services.usage import UsageBounds, UsageLog
from atrium.storage.opening import Storage, open_storage
from atrium.storage.quotas import StoredQuotas
from atrium.storage.usage import StoredUsage
from tests.ports.conftest import PEPPER

NOON = datetime(2026, 5, 4, 12, 30, tzinfo=UTC).timestamp()
BOUNDS = UsageBounds(50_000, 3600)
SPAN = Span(datetime.fromtimestamp(NOON - 3600, UTC), datetime.fromtimestamp(NOON + 3600, UTC))


async def a_user(storage: Storage, name: str) -> tuple[User, Caller]:
    user = await storage.users.add(name, password_hash=None, is_admin=False, now=datetime.fromtimestamp(NOON, UTC))
    return user, Caller(user.id, user.name)


def silent(name: str, fields: object) -> None:
    """Nobody listens."""


def record(user: int, at: float = NOON, *, tokens: int = 10, model: str = "m1", requests: int = 1) -> UsageRecord:
    return UsageRecord(at, "openai", user, 0, model, "", requests, 0, tokens, 0, 0.5, exact=True)


async def all_of_it(usage: StoredUsage) -> Sums:
    ((_, sums),) = await usage.by("door", SPAN, 10)
    return sums


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


async def test_of_two_hundred_at_once_as_many_go_as_the_quotas_say(storage: Storage) -> None:
    user, caller = await a_user(storage, "ann")
    meter = Meter(storage.quotas, Clock())
    await meter.set(Subject(user.id), Measure.REQUESTS, Period.MINUTE, 50)
    await meter.set(Subject(user.id), Measure.TOKENS, Period.DAY, 1000)
    going = asyncio.Event()
    used: list[int] = []

    async def one(number: int) -> str:
        entry = meter.enter(caller)
        try:
            use = meter.use(caller, ("m1",), Worst(30, 30))
        except RateLimited:
            entry.settle(0, counts=False)
            raise
        await going.wait()
        failed = number % 4 == 0
        tokens = 0 if failed else 20
        used.append(tokens)
        await storage.usage.write([record(user.id, tokens=tokens)])
        use.settle(tokens, counts=not failed)
        entry.settle(0, counts=not failed)
        return "failed" if failed else "done"

    tasks = [asyncio.create_task(one(number)) for number in range(200)]
    await asyncio.sleep(0)
    going.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    refused = [one for one in results if isinstance(one, RateLimited)]
    assert len(refused) == 200 - 1000 // 30
    assert len(used) == 33
    requests, tokens = meter.standings()
    assert (requests.used, requests.held) == (results.count("done"), 0)
    assert (tokens.used, tokens.held) == (sum(used), 0)
    fresh = Meter(storage.quotas, Clock())
    await fresh.reload()
    assert fresh.standings()[1].used == sum(used)


async def test_a_refusal_names_the_quota_and_when_to_come_back(storage: Storage) -> None:
    user, caller = await a_user(storage, "ann")
    clock = Clock()
    meter = Meter(storage.quotas, clock)
    await meter.set(Subject(user.id), Measure.REQUESTS, Period.MINUTE, 1)
    meter.enter(caller).settle(0, counts=True)
    clock.now += 20
    with pytest.raises(RateLimited, match="1 requests per minute for this user") as refused:
        meter.enter(caller)
    assert refused.value.retry_after == 40
    assert b"x-ratelimit-remaining-requests: 0\r\n" in refused.value.lines
    clock.now += 40
    meter.enter(caller).settle(0, counts=True)


async def test_what_others_hold_comes_back_sooner_than_what_is_used(storage: Storage) -> None:
    _, caller = await a_user(storage, "ann")
    meter = Meter(storage.quotas, Clock())
    await meter.set(Subject(), Measure.TOKENS, Period.DAY, 100)
    hold = meter.use(caller, ("m1",), Worst(1, 1 << 40))
    assert hold.granted == 100
    with pytest.raises(RateLimited) as refused:
        meter.use(caller, ("m1",), Worst(1, 5))
    assert refused.value.retry_after == 1
    hold.settle(60, counts=True)
    hold.settle(60, counts=True)
    with pytest.raises(RateLimited) as later:
        meter.use(caller, ("m1",), Worst(41, 41))
    assert later.value.retry_after == 11.5 * 3600
    assert meter.use(caller, ("m1",), Worst(1, 1 << 40)).granted == 40


async def test_a_quota_binds_whom_it_names_and_nobody_else(storage: Storage) -> None:
    ann, by_ann = await a_user(storage, "ann")
    _, by_bob = await a_user(storage, "bob")
    meter = Meter(storage.quotas, Clock())
    await meter.set(Subject(each_user=True), Measure.REQUESTS, Period.DAY, 2)
    await meter.set(Subject(ann.id, model="big-*"), Measure.REQUESTS, Period.DAY, 1)
    for caller in (by_ann, by_bob, ANONYMOUS):
        for _ in range(2):
            meter.enter(caller).settle(0, counts=True)
        with pytest.raises(RateLimited, match="each user"):
            meter.enter(caller)
    for _ in range(9):
        meter.enter(CONTROL).settle(0, counts=True)
    meter.use(by_ann, ("alias", "big-one"), Worst(1, 1)).settle(1, counts=True)
    with pytest.raises(RateLimited, match="with 'big-"):
        meter.use(by_ann, ("big-two",), Worst(1, 1))
    meter.use(by_ann, ("small",), Worst(1, 1)).settle(1, counts=True)
    meter.use(by_bob, ("big-one",), Worst(1, 1)).settle(1, counts=True)


async def test_the_same_subject_again_is_another_amount(storage: Storage) -> None:
    user, caller = await a_user(storage, "ann")
    meter = Meter(storage.quotas, Clock())
    first = await meter.set(Subject(user.id), Measure.REQUESTS, Period.MONTH, 1)
    meter.enter(caller).settle(0, counts=True)
    second = await meter.set(Subject(user.id), Measure.REQUESTS, Period.MONTH, 2)
    assert second.id == first.id
    meter.enter(caller).settle(0, counts=True)
    with pytest.raises(RateLimited):
        meter.enter(caller)
    await meter.remove(first.id)
    meter.enter(caller).settle(0, counts=True)
    for number in (first.id, 10**30):
        with pytest.raises(NotFound):
            await meter.remove(number)
    with pytest.raises(NotFound):
        await meter.set(Subject(10**6), Measure.REQUESTS, Period.DAY, 1)


async def test_gateways_on_one_database_learn_what_the_others_set_and_used(storage: Storage) -> None:
    ann, by_ann = await a_user(storage, "ann")
    bob, by_bob = await a_user(storage, "bob")
    clock = Clock()
    here, there = Meter(storage.quotas, clock), Meter(storage.quotas, clock)
    await here.set(Subject(ann.id), Measure.TOKENS, Period.DAY, 100)
    await here.set(Subject(each_user=True), Measure.REQUESTS, Period.MONTH, 3)
    assert there.idle
    await there.refresh()
    for meter, caller, user in ((here, by_ann, ann), (here, by_bob, bob), (there, by_ann, ann)):
        meter.use(caller, ("m1",), Worst(40, 40)).settle(40, counts=True)
        meter.enter(caller).settle(0, counts=True)
        await storage.usage.write([record(user.id, tokens=40)])
    held = there.use(by_ann, ("m1",), Worst(10, 10))
    for _ in range(2):
        await here.refresh()
        await there.refresh()
    for meter, held_there in ((here, 0), (there, 10)):
        tokens, of_ann, of_bob = meter.standings()
        assert (tokens.used, tokens.held, of_ann.used, of_bob.used) == (80, held_there, 2, 1)
    with pytest.raises(RateLimited):
        here.use(by_ann, ("m1",), Worst(21, 21))
    held.settle(20, counts=True)
    await there.refresh()
    assert there.standings()[0].used == 100
    clock.now += 12 * 3600
    await here.refresh()
    assert [one.used for one in here.standings()] == [0, 2, 1]


class AtMidnight(StoredQuotas):
    """A book that answers when another day has begun."""

    clock: Clock

    async def spent(self, quota: Quota, since: float) -> Mapping[int, int]:
        found = await super().spent(quota, since)
        self.clock.now += 12 * 3600
        return found


async def test_what_was_used_before_midnight_is_not_counted_after_it(storage: Storage) -> None:
    user, _ = await a_user(storage, "ann")
    book = AtMidnight(storage.database)
    book.clock = Clock()
    await storage.usage.write([record(user.id, tokens=40)])
    await storage.quotas.put(Subject(user.id), Measure.TOKENS, Period.DAY, 100)
    meter = Meter(book, book.clock)
    await meter.reload()
    assert [one.used for one in meter.standings()] == [0]


class Away:
    """A database that does not answer at first, and who asks it."""

    sqlite = False

    def __init__(self) -> None:
        self.asked = 0
        self.back = asyncio.Event()

    async def flush(self) -> None:
        self.asked += 1
        if self.asked < 4:
            raise OSError("no route")
        self.back.set()

    async def reload(self) -> None:
        """Nothing is new."""

    refresh = reload


async def test_a_database_that_was_away_is_asked_again_and_told_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atrium.app.parts.FLUSH_SECONDS", 0.0)
    told: list[str] = []
    away: Any = Away()
    async with kept_fresh(away, away, away, lambda name, _: told.append(name)):
        await away.back.wait()
    assert told == ["upkeep.failed"]


async def test_a_quota_that_many_set_at_once_is_one(storage: Storage) -> None:
    many = (storage.quotas.put(Subject(model="m*"), Measure.TOKENS, Period.DAY, amount) for amount in range(20))
    await asyncio.gather(*many)
    assert len(await storage.quotas.all()) == 1


async def test_a_deleted_user_takes_their_quotas_along(storage: Storage) -> None:
    user, _ = await a_user(storage, "ann")
    await storage.quotas.put(Subject(user.id), Measure.TOKENS, Period.DAY, 5)
    await storage.users.add("admin", password_hash=None, is_admin=True, now=datetime.fromtimestamp(NOON, UTC))
    await storage.users.delete(user.id)
    assert await storage.quotas.all() == ()


async def test_a_stop_writes_what_waits_and_a_restart_finds_it(storage: Storage, url: str | None, file: Path) -> None:
    async with UsageLog(storage.usage, BOUNDS, silent) as log:
        for number in range(7000):
            log.note(record(number % 3, model=f"m{number % 2}"))
        log.note(record(1, requests=0, tokens=0))
    again = await open_storage(url, file, PEPPER)
    sums = await all_of_it(again.usage)
    assert (sums.requests, sums.prompt_tokens) == (7000, 70_000)
    assert [sums.requests for _, sums in await again.usage.by("model", SPAN, 10)] == [3500, 3500]
    assert sum(one.hits for one in await again.usage.doors()) == 7001
    await again.usage.reset_doors()
    assert await again.usage.doors() == ()
    await again.usage.forget(datetime.fromtimestamp(NOON + 1, UTC))
    assert len(await again.usage.rows(SPAN, 100)) == 6
    await again.close()


async def test_an_export_tells_every_row_once_however_many_an_hour_has(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atrium.services.read_usage.PAGE", 7)
    noted = [
        record(user, NOON + hour * 3600, model=f"m{model}") for user in range(4) for model in "äZ_a" for hour in (0, 1)
    ]
    await storage.usage.write(noted)
    read = ReadUsage(UsageLog(storage.usage, BOUNDS, silent), storage.usage, storage.users, storage.keys)
    told = [(row.hour, row.user_id, row.model) async for row in read.export(SPAN)]
    assert len(told) == len(set(told)) == 32
    assert told[0][0] < told[-1][0]


async def test_a_queue_that_is_full_folds_and_loses_nothing(storage: Storage) -> None:
    log = UsageLog(storage.usage, UsageBounds(100, 3600), silent)
    for number in range(5000):
        log.note(record(number % 5, NOON + number % 120))
    await log.flush()
    sums = await all_of_it(storage.usage)
    assert (sums.requests, sums.prompt_tokens) == (5000, 50_000)


class Unsure:
    """A store that cannot write at first."""

    def __init__(self, store: StoredUsage) -> None:
        self._store = store
        self.broken = True

    async def write(self, records: Sequence[UsageRecord]) -> None:
        if self.broken:
            raise OSError("no space")
        await self._store.write(records)

    async def forget(self, before: datetime) -> None:
        await self._store.forget(before)


async def test_what_cannot_be_written_waits_for_the_next_batch(storage: Storage) -> None:
    store = Unsure(storage.usage)
    log = UsageLog(store, UsageBounds(10, 3600), silent)
    for _ in range(25):
        log.note(record(1))
    with pytest.raises(OSError, match="no space"):
        await log.flush()
    store.broken = False
    await log.flush()
    assert (await all_of_it(storage.usage)).requests == 25


async def test_a_queue_that_cannot_be_written_stays_within_its_bound(storage: Storage) -> None:
    store = Unsure(storage.usage)
    log = UsageLog(store, UsageBounds(10, 3600), silent)
    for _ in range(4):
        for _ in range(15):
            log.note(record(1))
        with pytest.raises(OSError, match="no space"):
            await log.flush()
    store.broken = False
    await log.flush()
    assert (await all_of_it(storage.usage)).requests == 60


class Slow(Unsure):
    """A store that has written and does not say so yet."""

    def __init__(self, store: StoredUsage) -> None:
        super().__init__(store)
        self.broken = False
        self.written = asyncio.Event()
        self.says_so = asyncio.Event()

    async def write(self, records: Sequence[UsageRecord]) -> None:
        await super().write(records)
        self.written.set()
        await self.says_so.wait()


async def test_a_stop_in_mid_write_counts_nothing_twice(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atrium.services.usage.EVERY", 0.0)
    store = Slow(storage.usage)
    async with UsageLog(store, BOUNDS, silent) as log:
        log.note(record(1))
        await store.written.wait()
        asyncio.get_running_loop().call_soon(store.says_so.set)
    assert (await all_of_it(storage.usage)).requests == 1
