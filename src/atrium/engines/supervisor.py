"""The one owner of all runners. Its book changes only between awaits, so it needs no lock.

Every event (a request came, a caller left, a lease ended, a runner got ready or ended, a timer rang) changes the book
and then calls `_settle`, which asks the pure decisions what to do next. Slow work runs in one task per runner's life.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from atrium.core.endpoints import RunnerPlan, RunnerState, RunnerStatus
from atrium.core.errors import AtriumError, EngineMissing
from atrium.core.models import ModelCard
from atrium.core.people import Caller
from atrium.decisions.place_request import Refuse, Serve, place_request
from atrium.decisions.plan_swap import Running, TooLarge, Wanted, after_swap, plan_swap
from atrium.engines import refusals
from atrium.engines.berth import MOST_FAILED_LOADS, Berth, Life, Waiter
from atrium.engines.lease import HeldLease
from atrium.engines.logs import RunnerLog
from atrium.engines.placement.local import LocalPlacement
from atrium.engines.process import STOP_GRACE, Exit, Launch, RunnerProcess
from atrium.engines.recipes.recipe import Plan, Recipe
from atrium.engines.turns import TurnLine

SOCKET = ".sock"
"""llama.cpp takes an address for a unix socket by this ending."""
Tell = Callable[[str, Mapping[str, object]], None]
"""Takes an event's name and its fields."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bytes and seconds."""

    memory: int
    """For all runners together."""
    keep_alive: float
    load_timeout: float
    queue: int
    queue_timeout: float


@dataclass(frozen=True, slots=True)
class Folders:
    run: Path
    logs: Path


class Supervisor:
    """Implements `core.ports.Engines`. Use as an async context manager; leaving it stops every runner."""

    def __init__(
        self,
        recipes: Mapping[str, Recipe],
        placement: LocalPlacement,
        bounds: Bounds,
        folders: Folders,
        tell: Tell,
    ) -> None:
        self._recipes = recipes
        self._placement = placement
        self._bounds = bounds
        self._folders = folders
        self._tell = tell
        self._berths: dict[str, Berth] = {}
        self._places = itertools.count()
        self._closing = False
        self._all_given_back = asyncio.Event()
        self._lives = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._clear_sockets)
        await self._lives.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop(grace=0.0)
        # No life is left to be cancelled, and an error of the body's stays what it is, ungrouped.
        await self._lives.__aexit__(None, None, None)

    @asynccontextmanager
    async def lease(
        self, card: ModelCard, caller: Caller, *, keep_alive: float | None = None
    ) -> AsyncGenerator[HeldLease]:
        since = self._now()
        berth = self._berth_of(card)
        life = await self._admit(berth)
        try:
            who = caller.name if caller.user_id is None else str(caller.user_id)
            yield HeldLease(life, who, self._now() - since, partial(self._suspect, berth), life.runner)
        finally:
            if keep_alive is not None:
                life.keep_alive = keep_alive
            self._give_back(berth, life)

    def running(self) -> tuple[RunnerStatus, ...]:
        now = self._now()
        return tuple(berth.status(now) for berth in self._berths.values() if not berth.at_rest)

    def planned(self, card: ModelCard) -> RunnerPlan:
        plan = self._planned(card)
        return RunnerPlan(plan.slots, plan.context, plan.threads, plan.memory)

    async def unload(self, model: str) -> bool:
        berth = self._berths.get(model)
        if berth is None:
            return False
        if (life := berth.life) is None:
            self._forget(berth)
            return False
        life.retiring = True
        self._rest(berth, life)
        await life.ended.wait()
        self._forget(berth)
        return True

    async def preload(self, cards: Sequence[ModelCard]) -> None:
        """Load models in this order; one that cannot be loaded is told as an event and passed over."""
        caller = Caller(user_id=None, name="preload")
        for card in cards:
            try:
                async with self.lease(card, caller):
                    pass
            except AtriumError as failed:
                self._tell("model.preload_failed", {"model": card.name, "error": failed.message})

    async def stop(self, *, grace: float) -> None:
        """Refuse new requests, give running ones `grace` seconds to end, then stop every runner."""
        self._closing = True
        for berth in self._berths.values():
            self._fail_waiters(berth, refusals.closing)
        if any(life.leases for _, life in self._alive()):
            self._all_given_back.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await self._all_given_back.wait()
        alive = self._alive()
        for berth, life in alive:
            life.line.close(refusals.closing)
            self._stop(berth, life, why="the server stops")
        for _, life in alive:
            await life.ended.wait()

    # Requests come and go.

    async def _admit(self, berth: Berth) -> Life:
        """A life with its lease counted."""
        standing = berth.standing(self._now(), queue=self._bounds.queue, closing=self._closing)
        placing = place_request(standing)
        if isinstance(placing, Refuse):
            self._tell("model.refused", {"model": berth.name, "why": placing.why.value})
            raise refusals.refused(berth, placing)
        if isinstance(placing, Serve) and berth.life:
            self._take(berth.life)
            return berth.life
        return await self._wait(berth)

    async def _wait(self, berth: Berth) -> Life:
        waiter = Waiter(asyncio.get_running_loop().create_future(), next(self._places))
        berth.waiters.append(waiter)
        self._settle()
        try:
            async with asyncio.timeout(self._bounds.queue_timeout):
                return await waiter.granted
        except TimeoutError:
            self._withdraw(berth, waiter)
            raise refusals.still_loading(berth, self._bounds.queue_timeout) from None
        except asyncio.CancelledError:
            self._withdraw(berth, waiter)
            raise

    def _withdraw(self, berth: Berth, waiter: Waiter) -> None:
        """The caller left, perhaps in the very moment when its lease was granted."""
        granted = waiter.granted
        if granted.done() and not granted.cancelled():
            if granted.exception() is None:
                self._give_back(berth, granted.result())
            return
        if waiter in berth.waiters:
            berth.waiters.remove(waiter)
        life = berth.life
        if life and not life.ready and not berth.waiters:
            self._stop(berth, life, why="nobody waits for it any more")
        self._settle()
        self._forget(berth)

    def _take(self, life: Life) -> None:
        life.leases += 1
        if life.expiry:
            life.expiry.cancel()
            life.expiry = None

    def _give_back(self, berth: Berth, life: Life) -> None:
        life.leases -= 1
        life.idle_since = self._now()
        self._rest(berth, life)
        if self._closing and not any(other.leases for _, other in self._alive()):
            self._all_given_back.set()
        self._settle()

    def _suspect(self, berth: Berth, life: Life, reason: str) -> None:
        """A lease's holder found the runner broken: it gets no second chance, and nobody else may use it."""
        if berth.life is life and not life.suspect:
            life.suspect = reason or "was found broken"
            life.retiring = True
            life.line.close(partial(refusals.gone, berth, life.suspect))
            life.process.stop(grace=0.0)

    # Lives begin and end.

    def _settle(self) -> None:
        """Begin loads, stop and drain idle models, serve those who can be served."""
        now = self._now()
        book: tuple[Running, ...] = tuple(r for berth in self._berths.values() if (r := berth.running(now)))
        drained: set[str] = set()
        asleep = [b for b in self._berths.values() if b.waiters and b.life is None]
        for berth in sorted(asleep, key=lambda b: b.waiters[0].place):
            if berth.retry_at > now:
                self._settle_at(berth, berth.retry_at)
            elif plan := self._plan(berth):
                # What was seen corrects the estimate, but must not keep out for ever what once fitted.
                wanted = Wanted(berth.name, max(plan.memory, min(berth.seen_memory, self._bounds.memory)))
                swap = plan_swap(wanted, book, self._bounds.memory)
                if isinstance(swap, TooLarge):
                    self._tell("model.refused", {"model": berth.name, "why": "memory", "needed": swap.needed})
                    self._fail_waiters(berth, partial(refusals.too_large, berth, swap))
                    continue
                book = after_swap(wanted, book, swap)
                drained.update(swap.drain)
                if swap.load:
                    self._begin(berth, plan)
                for name in swap.stop:
                    self._evict(name, wanted=berth.name)
        for berth, life in self._alive():
            life.draining = berth.name in drained
            self._grant(berth, life)

    def _plan(self, berth: Berth) -> Plan | None:
        """None when the model cannot be run at all; who waited was told."""
        try:
            return self._planned(berth.card)
        except AtriumError as refused:
            kind, message, hint = type(refused), refused.message, refused.hint
            self._fail_waiters(berth, lambda: kind(message, hint=hint))
            return None

    def _planned(self, card: ModelCard) -> Plan:
        """Raises EngineMissing, and what the recipe refuses the card with."""
        recipe = self._recipes.get(card.engine)
        if recipe is None:
            raise EngineMissing(f"no engine `{card.engine}` is known")
        return recipe.plan(card, self._bounds.memory)

    def _begin(self, berth: Berth, plan: Plan) -> None:
        launch = Launch(
            model=berth.name,
            plan=plan,
            socket=self._folders.run / f"{secrets.token_hex(4)}{SOCKET}",
            log=RunnerLog(self._folders.logs, berth.name),
            load_timeout=self._bounds.load_timeout,
        )
        life = Life(
            card=berth.card,
            plan=plan,
            process=RunnerProcess(launch, self._placement),
            line=TurnLine(plan.slots, longest=self._bounds.queue, patience=self._bounds.queue_timeout),
            begun_at=self._now(),
            keep_alive=self._bounds.keep_alive if berth.card.keep_alive is None else berth.card.keep_alive,
        )
        berth.life = life
        self._tell("runner.started", {"model": berth.name, "memory_estimate": plan.memory, "slots": plan.slots})
        self._lives.create_task(self._live(berth, life), name=f"runner of {berth.name}")

    async def _live(self, berth: Berth, life: Life) -> None:
        """The root of a life's task: whatever happens, its end is noted."""
        exit_ = Exit(asked=False, loaded=False, reason="was cancelled")
        try:
            exit_ = await life.process.live(partial(self._ready, berth, life))
        except Exception as broken:  # noqa: BLE001 - a task's root: told as an event, and as every waiter's error
            exit_ = Exit(asked=False, loaded=False, reason=f"could not be kept: {type(broken).__name__}")
            self._tell("runner.broken", {"model": berth.name, "error": repr(broken)})
        finally:
            self._note_end(berth, life, exit_)

    def _ready(self, berth: Berth, life: Life) -> None:
        life.ready_at = life.idle_since = self._now()
        berth.failed_loads = 0
        seconds = life.ready_at - life.begun_at
        self._tell("runner.ready", {"model": berth.name, "seconds": round(seconds, 3), "pid": life.process.pid})
        self._grant(berth, life, also_leaving=True)
        self._rest(berth, life)

    def _grant(self, berth: Berth, life: Life, *, also_leaving: bool = False) -> None:
        """Those who waited for a load are served by it even when it must leave right after."""
        while life.ready and berth.waiters and (life.accepting or also_leaving):
            waiter = berth.waiters.popleft()
            if not waiter.granted.done():
                self._take(life)
                waiter.granted.set_result(life)

    def _rest(self, berth: Berth, life: Life) -> None:
        """What becomes of a life that nobody holds."""
        if berth.life is not life or not life.idle or life.process.state is RunnerState.STOPPING:
            return
        if not life.ready and berth.waiters:
            return
        if life.retiring or life.keep_alive == 0:
            self._stop(berth, life, why="asked to" if life.retiring else "keep-alive")
        elif life.keep_alive > 0 and not life.expiry:
            loop = asyncio.get_running_loop()
            life.expiry = loop.call_later(life.keep_alive, self._expire, berth, life)

    def _expire(self, berth: Berth, life: Life) -> None:
        life.expiry = None
        if berth.life is life and life.idle:
            self._stop(berth, life, why="keep-alive")

    def _evict(self, name: str, *, wanted: str) -> None:
        berth = self._berths[name]
        if life := berth.life:
            self._stop(berth, life, why=f"memory for {wanted}")

    def _stop(self, berth: Berth, life: Life, *, why: str) -> None:
        if life.process.state is not RunnerState.STOPPING:
            self._tell("model.unloaded", {"model": berth.name, "why": why})
            life.process.stop(grace=STOP_GRACE)

    def _note_end(self, berth: Berth, life: Life, exit_: Exit) -> None:
        # What it died of says more than what its last user saw of that.
        reason = exit_.reason or life.suspect
        failed = bool(life.suspect) or not exit_.asked
        if life.expiry:
            life.expiry.cancel()
        berth.note_end(life, self._now(), loaded=exit_.loaded, error=reason if failed else "")
        life.line.close(partial(refusals.gone, berth, reason))
        self._tell("runner.exited", {"model": berth.name, "asked": not failed, "reason": reason})
        life.ended.set()
        if berth.failed_loads >= MOST_FAILED_LOADS:
            self._fail_waiters(berth, partial(refusals.broken, berth))
        self._settle()

    # The book.

    def _berth_of(self, card: ModelCard) -> Berth:
        berth = self._berths.get(card.name)
        if berth is None:
            berth = self._berths[card.name] = Berth(card)
        elif berth.card is not card:
            known, berth.card = berth.card, card
            if known.runs_as == card.runs_as:
                return berth
            # Installed anew or set up anew: what is known of the old one no longer holds.
            berth.failures = berth.failed_loads = berth.seen_memory = 0
            berth.retry_at = 0.0
            if berth.life:
                berth.life.retiring = True
                self._rest(berth, berth.life)
        return berth

    def _forget(self, berth: Berth) -> None:
        if berth.at_rest:
            self._berths.pop(berth.name, None)

    def _alive(self) -> list[tuple[Berth, Life]]:
        return [(berth, berth.life) for berth in self._berths.values() if berth.life]

    def _fail_waiters(self, berth: Berth, make: Callable[[], AtriumError]) -> None:
        while berth.waiters:
            waiter = berth.waiters.popleft()
            if not waiter.granted.done():
                waiter.granted.set_exception(make())

    def _settle_at(self, berth: Berth, when: float) -> None:
        if berth.retry:
            berth.retry.cancel()
        berth.retry = asyncio.get_running_loop().call_at(when, self._settle)

    def _clear_sockets(self) -> None:
        """Sockets that a killed server left behind."""
        self._folders.run.mkdir(mode=0o700, parents=True, exist_ok=True)
        for socket in self._folders.run.glob("[0-9a-f]" * 8 + SOCKET):
            if socket.is_socket():
                socket.unlink(missing_ok=True)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
