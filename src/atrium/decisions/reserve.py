"""Reserving of quotas before something starts, and settling when it has ended. Clock: seconds of the epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from atrium.core.quotas import Period, Quota, Worst

MINUTE = 60.0
DAY = 86_400


@dataclass(slots=True)
class Window:
    """One period of one quota. Its owner alone changes it, through the functions below."""

    ends: float
    used: int = 0
    held: int = 0
    """Reserved by what has not ended."""


@dataclass(frozen=True, slots=True)
class Line:
    quota: Quota
    window: Window

    @property
    def left(self) -> int:
        return max(0, self.quota.amount - self.window.used - self.window.held)


@dataclass(frozen=True, slots=True)
class Refused:
    """The quota with too little left, and whole seconds until it is worth another try."""

    line: Line
    wait: int


def window_at(period: Period, now: float) -> Window:
    """A fresh one that `now` lies in."""
    return Window(end_of(period, now))


def start_of(period: Period, now: float) -> float:
    """Where the calendar's period began; a minute has begun just now."""
    moment = datetime.fromtimestamp(now, UTC)
    if period is Period.MINUTE:
        return now
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return (day if period is Period.DAY else day.replace(day=1)).timestamp()


def end_of(period: Period, now: float) -> float:
    if period is Period.MINUTE:
        return now + MINUTE
    if period is Period.DAY:
        return start_of(period, now) + DAY
    moment = datetime.fromtimestamp(now, UTC)
    year, month = divmod(moment.year * 12 + moment.month, 12)
    return datetime(year, month + 1, 1, tzinfo=UTC).timestamp()


def reserve(lines: Sequence[Line], worst: Worst, now: float) -> int | Refused:
    """Take from every line or from none: as much as all have left, between the least and the most."""
    if not lines:
        return worst.most
    tightest = min(lines, key=lambda line: line.left)
    if tightest.left < worst.least:
        # What others hold comes back when they end; only what is used stays used until the period ends.
        waits_for_others = tightest.quota.amount - tightest.window.used >= worst.least
        wait = 1 if waits_for_others else max(1, math.ceil(tightest.window.ends - now))
        return Refused(tightest, wait)
    amount = min(worst.most, tightest.left)
    for line in lines:
        line.window.held += amount
    return amount


def settle(lines: Sequence[Line], held: int, used: int) -> None:
    """What was held is given back, what was used is noted."""
    for line in lines:
        line.window.held -= held
        line.window.used += used
