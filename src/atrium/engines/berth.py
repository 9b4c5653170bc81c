"""The place of one model: its runner if one lives, who waits for it, and what is remembered of earlier lives."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from atrium.core.endpoints import Runner, RunnerState, RunnerStatus
from atrium.core.errors import AtriumError
from atrium.core.models import ModelCard
from atrium.decisions.place_request import Standing
from atrium.decisions.plan_relief import Measured
from atrium.decisions.plan_swap import Running
from atrium.engines.process import RunnerProcess
from atrium.engines.recipes.recipe import Plan
from atrium.engines.turns import TurnLine, displaced

MOST_FAILED_LOADS = 3
FIRST_BACKOFF = 0.5
LONGEST_BACKOFF = 30.0
HEALTHY_AFTER = 60.0
"""Seconds of being ready after which earlier failures are forgiven."""


@dataclass(eq=False, slots=True)
class Life:
    """One runner from its start to its end. Times are of the event loop's clock."""

    card: ModelCard
    plan: Plan
    reckoned: int
    """Bytes of memory that were kept for it."""
    evicted: tuple[str, ...]
    """Models that were stopped to make room for it."""
    process: RunnerProcess
    line: TurnLine
    begun_at: float
    ready_at: float | None = None
    idle_since: float = 0.0
    leases: int = 0
    draining: bool = False
    """Its memory is wanted by another model: no new leases."""
    retiring: bool = False
    """It ends when its leases have ended: no new leases."""
    keep_alive: float = 0.0
    """Seconds it stays without a lease; negative: for ever."""
    expiry: asyncio.TimerHandle | None = None
    suspect: str = ""
    """What a lease holder found wrong with it."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def ready(self) -> bool:
        return self.process.state is RunnerState.READY

    @property
    def accepting(self) -> bool:
        return not (self.draining or self.retiring)

    @property
    def idle(self) -> bool:
        return self.leases == 0

    @property
    def runner(self) -> Runner:
        """Of a life that is or was ready."""
        return Runner(
            card=self.card,
            socket=str(self.process.launch.socket),
            pid=self.process.pid or 0,
            slots=self.plan.slots,
            context=self.plan.context,
            fingerprint=self.plan.fingerprint,
        )

    @property
    def memory(self) -> int:
        return max(self.reckoned, self.process.peak)


@dataclass(eq=False, slots=True)
class Waiter:
    """A request that waits for its model. The life it is granted counts its lease already."""

    granted: asyncio.Future[Life]
    place: int
    """In the order of all that ever waited; a clock would have ties."""
    who: str
    """Whose it is, for fairness."""


@dataclass(eq=False, slots=True)
class Berth:
    card: ModelCard
    life: Life | None = None
    waiters: deque[Waiter] = field(default_factory=deque[Waiter])
    failed_loads: int = 0
    """In a row."""
    failures: int = 0
    """Lives that ended unasked, until one is healthy for long."""
    retry_at: float = 0.0
    retry: asyncio.TimerHandle | None = None
    last_error: str = ""
    reckoned: int = 0
    """What its latest life was reckoned with."""
    evicted: list[str] = field(default_factory=list[str])
    """Models that were stopped for the load that is to begin."""

    @property
    def name(self) -> str:
        return self.card.name

    @property
    def state(self) -> RunnerState:
        if self.life:
            return self.life.process.state
        return RunnerState.DEAD if self.failures else RunnerState.STOPPED

    @property
    def at_rest(self) -> bool:
        return not (self.life or self.waiters or self.failures)

    def begin(self, life: Life) -> None:
        self.life = life
        self.reckoned = life.reckoned
        self.evicted.clear()

    def fail(self, make: Callable[[], AtriumError]) -> None:
        """Tell all who wait for a load, each with an error of its own."""
        while self.waiters:
            waiter = self.waiters.popleft()
            if not waiter.granted.done():
                waiter.granted.set_exception(make())

    def wake_later(self, wake: Callable[[], None]) -> None:
        """When a load may be tried again."""
        if self.retry:
            self.retry.cancel()
        self.retry = asyncio.get_running_loop().call_at(self.retry_at, wake)

    def counts(self) -> Counter[str]:
        """Requests that wait, by caller."""
        counts = Counter(waiter.who for waiter in self.waiters)
        if self.life:
            counts.update(self.life.line.counts())
        return counts

    def displace(self) -> None:
        """The caller who waits with the most requests loses the last of them."""
        ((who, _),) = self.counts().most_common(1)
        if self.life and self.life.line.displace(who):
            return
        last = next(waiter for waiter in reversed(self.waiters) if waiter.who == who)
        self.waiters.remove(last)
        if not last.granted.done():
            last.granted.set_exception(displaced())

    def standing(self, who: str, now: float, *, queue: int, closing: bool) -> Standing:
        waiting = len(self.waiters) + (self.life.line.waiting if self.life else 0)
        counts = self.counts() if waiting >= queue else Counter[str]()
        return Standing(
            state=self.state,
            accepting=self.life is None or self.life.accepting,
            waiting=waiting,
            queue=queue,
            failed_loads=self.failed_loads,
            most_failed_loads=MOST_FAILED_LOADS,
            retry_in=self.retry_at - now,
            closing=closing,
            own=counts[who],
            most=max(counts.values(), default=0),
        )

    def running(self, now: float) -> Running | None:
        """How its life looks to `plan_swap`. Who waits for a load holds it like a lease."""
        if (life := self.life) is None:
            return None
        loading = life.process.state in (RunnerState.STOPPED, RunnerState.STARTING)
        return Running(
            model=self.name,
            memory=life.memory,
            leases=life.leases + (len(self.waiters) if loading else 0),
            idle=now - life.idle_since,
            reload=(life.ready_at or now) - life.begun_at,
            pinned=life.keep_alive < 0,
            leaving=life.retiring or life.process.state is RunnerState.STOPPING,
        )

    def measured(self, life: Life) -> Measured:
        """How a life looks to `plan_relief`."""
        return Measured(
            model=self.name,
            memory=life.process.memory,
            reckoned=life.reckoned,
            leases=life.leases + (0 if life.ready else len(self.waiters)),
            reload=(life.ready_at or life.begun_at) - life.begun_at,
            leaving=life.retiring or life.process.state is RunnerState.STOPPING,
        )

    def status(self, now: float) -> RunnerStatus:
        life = self.life
        expires = None if life is None or life.keep_alive < 0 else life.keep_alive
        if life and life.idle and expires is not None:
            expires = max(0.0, life.idle_since + expires - now)
        return RunnerStatus(
            model=self.name,
            state=self.state,
            pid=life.process.pid if life else None,
            slots=life.plan.slots if life else 0,
            busy=life.line.busy if life else 0,
            waiting=len(self.waiters) + (life.line.waiting if life else 0),
            memory_estimate=self.reckoned,
            memory_used=life.process.memory if life else 0,
            expires_in=expires,
            last_error=self.last_error,
            context=life.plan.context if life else 0,
        )

    def backoff(self) -> float:
        """Seconds to wait after the failures so far."""
        return min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** max(0, self.failures - 1)) if self.failures else 0.0

    def note_end(self, life: Life, now: float, *, loaded: bool, error: str) -> None:
        """Remember a life that ended; `error` is empty when it was asked to."""
        self.life = None
        if life.ready_at is not None and now - life.ready_at >= HEALTHY_AFTER:
            self.failures = 0
        if error:
            self.failures += 1
            self.failed_loads = 0 if loaded else self.failed_loads + 1
            self.last_error = error
            self.retry_at = now + self.backoff()
