"""Quotas in force: one book in memory, so that a reservation is exact however many ask at once.

    enter -> use -> settle -> leave

It changes only between awaits. The quotas themselves are kept in the database; what was used of a day or month is read
from the usage records when a quota is first seen, so that a restart forgets nothing. Gateways that share a database
have a book each, which is brought up to date every few seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from atrium.core.errors import RateLimited
from atrium.core.people import Caller
from atrium.core.quotas import Measure, Period, Quota, Standing, Subject, Worst
from atrium.core.usage_ports import QuotaBook
from atrium.decisions.reserve import Line, Refused, Window, reserve, settle, start_of, window_at

MOST_WINDOWS = 100_000
MOST_REMEMBERED = 10_000
ONE = Worst(1, 1)
Names = tuple[str, ...]


@dataclass(slots=True, eq=False)
class Hold:
    """What one request, or one use of a model, has reserved. Given back or settled once."""

    requests: tuple[Line, ...] = ()
    tokens: tuple[Line, ...] = ()
    granted: int | None = None
    """Tokens that may be used; None where no quota counts them."""
    _over: bool = field(default=False)

    def settle(self, tokens: int, *, counts: bool) -> None:
        """`tokens` were used; `counts`: it was a request that came to something."""
        if self._over:
            return
        self._over = True
        settle(self.requests, 1, int(counts))
        if self.granted is not None:
            settle(self.tokens, self.granted, tokens)


NOTHING = Hold()
"""Where no quota speaks of a caller."""


class Meter:
    def __init__(self, book: QuotaBook, clock: Callable[[], float] = time.time) -> None:
        self._book = book
        self._clock = clock
        self._reading = asyncio.Lock()
        self._quotas: tuple[Quota, ...] = ()
        self._windows: dict[tuple[int, int], Window] = {}
        self._matching: dict[tuple[int | None, int | None, Names], tuple[Quota, ...]] = {}

    async def refresh(self) -> None:
        """Read what other gateways on the same database have set and used since.

        A day's or month's quota that several of them count is overstepped at most by what is used between two calls.
        """
        await self.reload()
        for quota in self._quotas:
            if quota.period is not Period.MINUTE:
                await self._recall(quota)

    async def reload(self) -> None:
        """Read the quotas anew, and what was used of those that were not known."""
        # One after the other: what was read before a change must not be put in force after it.
        async with self._reading:
            quotas = await self._book.all()
            known = {quota.id for quota in self._quotas}
            for quota in quotas:
                if quota.id not in known and quota.period is not Period.MINUTE:
                    await self._recall(quota)
            self._quotas = quotas
            self._matching.clear()
            ids = {quota.id for quota in quotas}
            self._windows = {key: window for key, window in self._windows.items() if key[0] in ids}

    async def set(self, subject: Subject, measure: Measure, period: Period, amount: int) -> Quota:
        """Another amount for the same subject takes the place of the one before. Raises NotFound for user or key."""
        quota = await self._book.put(subject, measure, period, amount)
        await self.reload()
        return quota

    async def remove(self, quota_id: int) -> None:
        """Raises NotFound."""
        await self._book.remove(quota_id)
        await self.reload()

    def enter(self, caller: Caller) -> Hold:
        """One request of the caller's, whatever it is for. Raises RateLimited."""
        if not self._quotas or is_exempt(caller):
            return NOTHING
        return self._take(self._lines(caller, (), Measure.REQUESTS), (), ONE)

    def use(self, caller: Caller, names: Names, worst: Worst, *, asked: bool = True) -> Hold:
        """One use of a model, by the names that it is known by. Raises RateLimited.

        `asked`: the caller asked for this very model; else it is used beside, and its tokens alone count.
        """
        if not self._quotas or is_exempt(caller):
            return NOTHING
        requests = self._lines(caller, names, Measure.REQUESTS) if asked else []
        requests = [line for line in requests if line.quota.subject.model]
        return self._take(requests, self._lines(caller, names, Measure.TOKENS), worst)

    @property
    def idle(self) -> bool:
        """There is no quota at all."""
        return not self._quotas

    def counts_tokens(self, caller: Caller, names: Names) -> bool:
        """Whether it matters how many tokens a use of the model takes."""
        if not self._quotas or is_exempt(caller):
            return False
        return any(quota.measure is Measure.TOKENS for quota in self._of(caller, names))

    def tightest(self, caller: Caller, names: Names, measure: Measure) -> Line | None:
        """The quota of the caller's with the least left."""
        if not self._quotas or is_exempt(caller):
            return None
        return min(self._lines(caller, names, measure), key=lambda line: line.left, default=None)

    def standings(self) -> tuple[Standing, ...]:
        """Every quota, with what is used where anything is."""
        now = self._clock()
        found: list[Standing] = []
        for quota in self._quotas:
            own = {user: window for (number, user), window in self._windows.items() if number == quota.id}
            live = {user: window for user, window in own.items() if window.ends > now}
            shown = live or {0: window_at(quota.period, now)}
            found += [Standing(quota, user, one.used, one.held, one.ends) for user, one in sorted(shown.items())]
        return tuple(found)

    async def _recall(self, quota: Quota) -> None:
        began = start_of(quota.period, self._clock())
        spent = await self._book.spent(quota, began)
        if start_of(quota.period, self._clock()) != began:
            # Midnight came meanwhile: that was another period's.
            return
        for user_id, used in spent.items():
            window = self._window_of((quota.id, user_id if quota.subject.each_user else 0), quota.period)
            # What was used here may not be written down yet, and what was written down may be others'.
            window.used = max(window.used, used)

    def _take(self, requests: Sequence[Line], tokens: Sequence[Line], worst: Worst) -> Hold:
        if not requests and not tokens:
            return NOTHING
        now = self._clock()
        granted = reserve(tokens, worst, now)
        if isinstance(granted, Refused):
            raise exceeded(granted, now)
        one = reserve(requests, ONE, now)
        if isinstance(one, Refused):
            settle(tokens, granted, 0)
            raise exceeded(one, now)
        return Hold(tuple(requests), tuple(tokens), granted if tokens else None)

    def _lines(self, caller: Caller, names: Names, measure: Measure) -> list[Line]:
        return [
            Line(quota, self._window(quota, caller)) for quota in self._of(caller, names) if quota.measure is measure
        ]

    def _of(self, caller: Caller, names: Names) -> tuple[Quota, ...]:
        key = (caller.user_id, caller.key_id, names)
        found = self._matching.get(key)
        if found is None:
            if len(self._matching) >= MOST_REMEMBERED:
                self._matching.clear()
            found = self._matching[key] = tuple(one for one in self._quotas if binds(one.subject, caller, names))
        return found

    def _window(self, quota: Quota, caller: Caller) -> Window:
        return self._window_of((quota.id, (caller.user_id or 0) if quota.subject.each_user else 0), quota.period)

    def _window_of(self, key: tuple[int, int], period: Period) -> Window:
        now = self._clock()
        window = self._windows.get(key)
        if window is None or window.ends <= now:
            if len(self._windows) >= MOST_WINDOWS:
                self._windows = {key: one for key, one in self._windows.items() if one.ends > now}
            window = self._windows[key] = window_at(period, now)
        return window


def is_exempt(caller: Caller) -> bool:
    """The control socket's caller, who could lift any quota."""
    return caller.user_id is None and caller.is_admin


def binds(subject: Subject, caller: Caller, names: Names) -> bool:
    if subject.user_id is not None and subject.user_id != caller.user_id:
        return False
    if subject.key_id is not None and subject.key_id != caller.key_id:
        return False
    return not subject.model or any(fnmatchcase(name, subject.model) for name in names if name)


def exceeded(refused: Refused, now: float) -> RateLimited:
    quota, window = refused.line.quota, refused.line.window
    whom = "each user" if quota.subject.each_user else "this key" if quota.subject.key_id else "this user"
    if quota.subject.user_id is None and quota.subject.key_id is None and not quota.subject.each_user:
        whom = "everybody together"
    model = f" with '{quota.subject.model}'" if quota.subject.model else ""
    wait = refused.wait
    name = quota.measure.value
    lines = (
        f"x-ratelimit-limit: {quota.amount}\r\nx-ratelimit-remaining: {refused.line.left}\r\n"
        f"x-ratelimit-reset: {int(now) + wait}\r\nx-ratelimit-limit-{name}: {quota.amount}\r\n"
        f"x-ratelimit-remaining-{name}: {refused.line.left}\r\n"
        f"x-ratelimit-reset-{name}: {max(0.0, window.ends - now):.3f}s\r\n"
    )
    return RateLimited(
        f"The quota of {quota.amount} {name} per {quota.period.value} for {whom}{model} is used up",
        hint=f"Try again in {wait} s",
        retry_after=wait,
        lines=lines.encode("ascii", "replace"),
    )
