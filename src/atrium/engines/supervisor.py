"""The one owner of all runners. Its book changes only between awaits, so it needs no lock.

Every event (a request came, a caller left, a lease ended, a runner got ready or ended, a timer rang) changes the book
and then calls `_settle`, which asks the pure decisions what to do next. Slow work runs in one task per runner's life.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Self

from atrium.core.endpoints import RunnerPlan, RunnerState, RunnerStatus
from atrium.core.errors import AtriumError
from atrium.core.events import Tell
from atrium.core.models import ModelCard
from atrium.core.people import Caller
from atrium.decisions.place_request import Displace, Placing, Refuse, Serve, place_request
from atrium.decisions.plan_relief import Relief, plan_relief
from atrium.decisions.plan_swap import Moves, Wanted, plan_line
from atrium.engines import refusals
from atrium.engines.berth import MOST_FAILED_LOADS, Berth, Life, Waiter
from atrium.engines.bounds import Bounds, Folders, launch_of
from atrium.engines.fitting import Fitted, Fitter
from atrium.engines.lease import HeldLease
from atrium.engines.placement.local import LocalPlacement
from atrium.engines.process import STOP_GRACE, Exit, RunnerProcess
from atrium.engines.recipes.recipe import Recipe
from atrium.engines.seen import SeenMemory
from atrium.engines.turns import TurnLine
from atrium.engines.watch import MemoryWatch


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
        self._seen = SeenMemory(folders.seen)
        self._fitter = Fitter(recipes, self._seen)
        self._memory = MemoryWatch(placement, bounds, self._seen)
        self._placement = placement
        self._bounds = bounds
        self._folders = folders
        self._tell = tell
        self._berths: dict[str, Berth] = {}
        self._places = itertools.count()
        self._closing = False
        self._draining = False
        """Some model in use takes no more leases."""
        self._all_given_back = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        self._lives = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._folders.clear_sockets)
        await asyncio.to_thread(self._seen.load)
        await self._memory.look(())
        await self._lives.__aenter__()
        self._watching = self._lives.create_task(self._watch(), name="memory of runners")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop(grace=0.0)
        if self._watching:
            self._watching.cancel()
        await self._memory.remember()
        # No life is left to be cancelled, and an error of the body's stays what it is, ungrouped.
        await self._lives.__aexit__(None, None, None)

    @asynccontextmanager
    async def lease(
        self, card: ModelCard, caller: Caller, *, keep_alive: float | None = None
    ) -> AsyncGenerator[HeldLease]:
        since = self._now()
        berth = self._berth_of(card)
        who = caller.name if caller.user_id is None else str(caller.user_id)
        life = await self._admit(berth, who)
        try:
            evicted = life.evicted if life.begun_at >= since else ()
            yield HeldLease(life, who, self._now() - since, evicted, partial(self._suspect, berth), life.runner)
        finally:
            if keep_alive is not None:
                life.keep_alive = keep_alive
            self._give_back(berth, life)

    def running(self) -> tuple[RunnerStatus, ...]:
        now = self._now()
        return tuple(berth.status(now) for berth in self._berths.values() if not berth.at_rest)

    def planned(self, card: ModelCard) -> RunnerPlan:
        life = berth.life if (berth := self._berths.get(card.name)) else None
        if life and life.card.runs_as == card.runs_as:
            return RunnerPlan(life.plan.slots, life.plan.context, life.plan.threads, life.reckoned)
        fitted = self._fitter.fit(card, self._bounds.memory, self._allowed())
        return RunnerPlan(fitted.plan.slots, fitted.plan.context, fitted.plan.threads, fitted.memory)

    async def unload(self, model: str) -> bool:
        if (berth := self._berths.get(model)) is None:
            return False
        if (life := berth.life) is None:
            self._forget(berth)
            return False
        life.retiring = True
        self._rest(berth, life)
        await life.ended.wait()
        self._forget(berth)
        return True

    async def stop(self, *, grace: float) -> None:
        """Refuse new requests, give running ones `grace` seconds to end, then stop every runner."""
        self._closing = True
        for berth in self._berths.values():
            berth.fail(refusals.closing)
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

    async def _admit(self, berth: Berth, who: str) -> Life:
        """A life with its lease counted."""
        placing = self._place(berth, who)
        if isinstance(placing, Displace):
            berth.displace()
            placing = self._place(berth, who)
        if isinstance(placing, Refuse):
            self._tell("model.refused", {"model": berth.name, "why": placing.why.value})
            raise refusals.refused(berth, placing)
        if isinstance(placing, Serve) and berth.life:
            self._take(berth.life)
            return berth.life
        return await self._wait(berth, who)

    def _place(self, berth: Berth, who: str) -> Placing:
        return place_request(berth.standing(who, self._now(), queue=self._bounds.queue, closing=self._closing))

    async def _wait(self, berth: Berth, who: str) -> Life:
        waiter = Waiter(asyncio.get_running_loop().create_future(), next(self._places), who)
        berth.waiters.append(waiter)
        try:
            async with asyncio.timeout(self._bounds.queue_timeout):
                self._settle()
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

    def _give_back(self, berth: Berth, life: Life) -> None:
        life.leases -= 1
        life.idle_since = self._now()
        self._rest(berth, life)
        if self._closing and not any(other.leases for _, other in self._alive()):
            self._all_given_back.set()
        self._settle()

    def _suspect(self, berth: Berth, life: Life, reason: str, *, at_once: bool) -> None:
        """A lease's holder found the runner broken: it gets no second chance, and nobody new may use it."""
        if berth.life is not life or life.line.closed:
            return
        life.suspect = life.suspect or reason or "was found broken"
        life.retiring = True
        if at_once:
            life.line.close(partial(refusals.gone, berth, life.suspect))
            life.process.stop(grace=0.0)

    # Lives begin and end.

    def _settle(self) -> None:
        """Begin loads, stop and drain idle models, serve those who can be served."""
        if not self._draining and not any(berth.waiters for berth in self._berths.values()):
            return
        fitted = self._fit_sleepers()
        moves = Moves()
        if fitted:
            now = self._now()
            book = [r for berth in self._berths.values() if (r := berth.running(now))]
            line = [Wanted(name, fit.memory) for name, fit in fitted.items()]
            moves = plan_line(line, book, self._allowed())
        for name, swap in moves.refuse:
            self._tell("model.refused", {"model": name, "why": "memory", "needed": swap.needed})
            berth = self._berths[name]
            berth.fail(partial(refusals.too_large, berth, swap, self._bounds.memory))
        for name in moves.load:
            self._begin(self._berths[name], fitted[name])
        for name, wanted in moves.stop:
            self._evict(name, wanted)
        self._draining = bool(moves.drain)
        for berth, life in self._alive():
            life.draining = berth.name in moves.drain
            self._grant(berth, life)

    def _fit_sleepers(self) -> dict[str, Fitted]:
        """How each model that is waited for and has no runner would run, in the order of who waits longest."""
        now = self._now()
        asleep = [b for b in self._berths.values() if b.waiters and b.life is None]
        fitted: dict[str, Fitted] = {}
        for berth in sorted(asleep, key=lambda b: b.waiters[0].place):
            if berth.retry_at > now:
                berth.wake_later(self._settle)
                continue
            try:
                fitted[berth.name] = self._fitter.fit(berth.card, self._bounds.memory, self._allowed())
            except AtriumError as refused:
                berth.fail(refusals.the_same(refused))
        return fitted

    def _begin(self, berth: Berth, fitted: Fitted) -> None:
        plan = fitted.plan
        life = Life(
            card=berth.card,
            plan=plan,
            reckoned=fitted.memory,
            evicted=tuple(berth.evicted),
            process=RunnerProcess(launch_of(berth.name, plan, self._bounds, self._folders), self._placement),
            line=TurnLine(plan.slots, longest=self._bounds.queue, patience=self._bounds.queue_timeout),
            begun_at=self._now(),
            keep_alive=self._bounds.keep_alive if berth.card.keep_alive is None else berth.card.keep_alive,
        )
        berth.begin(life)
        told = {"memory_estimate": fitted.memory, "slots": plan.slots, "context": plan.context}
        self._tell("runner.started", {"model": berth.name, **told, "shrunk": fitted.shrinks})
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

    def _rest(self, berth: Berth, life: Life, *, why: str = "asked to") -> None:
        """What becomes of a life that nobody holds."""
        if berth.life is not life or not life.idle or life.process.state is RunnerState.STOPPING:
            return
        if not life.ready and berth.waiters:
            return
        if life.retiring or life.keep_alive == 0:
            self._stop(berth, life, why=why if life.retiring else "keep-alive")
        elif life.keep_alive > 0 and not (life.expiry and life.expiry.when() <= life.idle_since + life.keep_alive):
            self._expire_at(berth, life, life.idle_since + life.keep_alive)

    def _expire_at(self, berth: Berth, life: Life, when: float) -> None:
        if life.expiry:
            life.expiry.cancel()
        life.expiry = asyncio.get_running_loop().call_at(when, self._expire, berth, life)

    def _expire(self, berth: Berth, life: Life) -> None:
        """A timer for every request costs more than the request: this one rings, and looks how long it is idle."""
        life.expiry = None
        if berth.life is not life or not life.idle or life.keep_alive < 0:
            return
        due = life.idle_since + life.keep_alive
        if due > self._now():
            self._expire_at(berth, life, due)
        else:
            self._stop(berth, life, why="keep-alive")

    def _evict(self, name: str, wanted: str) -> None:
        if life := self._berths[name].life:
            self._berths[wanted].evicted.append(name)
            self._stop(self._berths[name], life, why="memory", wanted=wanted)

    def _stop(self, berth: Berth, life: Life, *, why: str, wanted: str = "") -> None:
        if life.process.state is not RunnerState.STOPPING:
            self._tell("model.unloaded", {"model": berth.name, "why": why, "wanted": wanted})
            life.process.stop(grace=STOP_GRACE)

    def _note_end(self, berth: Berth, life: Life, exit_: Exit) -> None:
        self._memory.note(life)
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
            berth.fail(partial(refusals.broken, berth))
        self._settle()

    # Memory.

    def _allowed(self) -> int:
        return self._memory.allowed([life for _, life in self._alive()])

    async def _watch(self) -> None:
        """The root of the task that watches memory."""
        while True:
            await asyncio.sleep(self._bounds.look)
            await self._memory.look([life for _, life in self._alive()])
            self._relieve()
            await self._memory.remember()

    def _relieve(self) -> None:
        measured = [berth.measured(life) for berth, life in self._alive()]
        relief = plan_relief(measured, self._allowed(), critical=self._memory.critical)
        for name in (*relief.stop, *relief.drain):
            berth = self._berths[name]
            if life := berth.life:
                self._tell("model.overrun", {"model": name, "memory": life.process.memory, "reckoned": life.reckoned})
                life.retiring = True
                self._rest(berth, life, why="too much memory is in use")
        if relief.kill and (life := self._berths[relief.kill].life):
            self._suspect(
                self._berths[relief.kill], life, "was ended since the machine ran out of memory", at_once=True
            )
        if relief != Relief():
            self._settle()

    def _berth_of(self, card: ModelCard) -> Berth:
        berth = self._berths.get(card.name)
        if berth is None:
            berth = self._berths[card.name] = Berth(card)
        elif berth.card is not card:
            known, berth.card = berth.card, card
            if known.runs_as == card.runs_as:
                return berth
            # Installed anew or set up anew: what is known of the old one no longer holds.
            berth.failures = berth.failed_loads = 0
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

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
