"""Usage told: totals, a series, and shares by user, key and model."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from atrium.core.errors import Unprocessable
from atrium.core.people import Key
from atrium.core.ports import KeyBook, UserBook
from atrium.core.usage import DoorHits, Span, Sums, UsageRow
from atrium.core.usage_ports import UsageStore
from atrium.services.usage import UsageLog

MOST_SHARES = 1000
MOST_STEPS = 10_000
PAGE = 2000
"""Rows of an export that are read at once."""


@dataclass(frozen=True, slots=True)
class Names:
    """Of those who are still there."""

    users: Mapping[int, str]
    keys: Mapping[int, Key]

    def user(self, user_id: int) -> str:
        return "anonymous" if user_id == 0 else self.users.get(user_id, f"deleted user {user_id}")


@dataclass(frozen=True, slots=True)
class Report:
    totals: Sums
    series: tuple[tuple[datetime, Sums], ...]
    users: tuple[tuple[int, Sums], ...]
    keys: tuple[tuple[int, Sums], ...]
    models: tuple[tuple[str, Sums], ...]
    doors: tuple[tuple[str, Sums], ...]


@dataclass(frozen=True, slots=True)
class ReadUsage:
    log: UsageLog
    store: UsageStore
    users: UserBook
    keys: KeyBook

    async def report(self, span: Span, *, daily: bool) -> Report:
        """With all that has ended until now. Raises Unprocessable for a span that is too long for its steps."""
        step = timedelta(days=1) if daily else timedelta(hours=1)
        if (span.until - span.since) / step > MOST_STEPS:
            raise Unprocessable(
                f"The series would have more than {MOST_STEPS} steps", hint="Ask for days", param="since"
            )
        await self.log.flush()
        series: dict[datetime, Sums] = {}
        for hour, sums in await self.store.by("hour", span, MOST_STEPS * 24):
            at = hour.replace(hour=0) if daily else hour
            series[at] = plus(series.get(at, Sums()), sums)
        totals = Sums()
        for sums in series.values():
            totals = plus(totals, sums)
        users, keys, models, doors = [
            await self.store.by(field, span, MOST_SHARES) for field in ("user_id", "key_id", "model", "door")
        ]
        return Report(totals, tuple(series.items()), users, keys, models, doors)

    async def export(self, span: Span) -> AsyncGenerator[UsageRow]:
        """Every sum of an hour, oldest first."""
        await self.log.flush()
        last: UsageRow | None = None
        while rows := await self.store.rows(span, PAGE, last):
            for row in rows:
                yield row
            last = rows[-1]

    async def names(self) -> Names:
        users = {user.id: user.name for user in await self.users.all()}
        return Names(users, {key.id: key for key, _ in await self.keys.all()})

    async def doors(self) -> tuple[DoorHits, ...]:
        await self.log.flush()
        return await self.store.doors()

    async def reset_doors(self) -> None:
        await self.log.flush()
        await self.store.reset_doors()


def plus(one: Sums, other: Sums) -> Sums:
    return Sums(
        one.requests + other.requests,
        one.failures + other.failures,
        one.prompt_tokens + other.prompt_tokens,
        one.completion_tokens + other.completion_tokens,
        one.seconds + other.seconds,
    )
