"""Which models must leave memory so that a wanted one fits. A model with a lease is never stopped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

QUICK = 1.0
"""Seconds of loading that nobody minds."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """`memory` in bytes, as estimated or better known."""

    model: str
    memory: int


@dataclass(frozen=True, slots=True)
class Running:
    """A model that takes memory, in bytes."""

    model: str
    memory: int
    leases: int = 0
    idle: float = 0.0
    """Seconds since its last lease ended."""
    reload: float = 0.0
    """Seconds that loading it took."""
    pinned: bool = False
    """It was asked to stay for ever: it goes last."""
    leaving: bool = False
    """It is stopping already, or stops when its leases end."""
    reserved: bool = False
    """Memory kept for a model that waits for it; nothing runs, nothing can be stopped."""


@dataclass(frozen=True, slots=True)
class Swap:
    """What to do now. Exactly one of the three: load, or stop and drain, or (both empty) wait for what is leaving."""

    load: bool
    stop: tuple[str, ...] = ()
    """Idle models to stop; then ask again."""
    drain: tuple[str, ...] = ()
    """Leased models that take no more leases and are stopped when idle; then ask again."""


@dataclass(frozen=True, slots=True)
class TooLarge:
    """The model can never fit."""

    needed: int
    budget: int
    in_use: tuple[tuple[str, int], ...]


def plan_swap(wanted: Wanted, running: Sequence[Running], budget: int) -> Swap | TooLarge:
    """Idle models leave first, of these the cheapest to load again, of these the longest idle."""
    if wanted.memory > budget:
        return TooLarge(wanted.memory, budget, tuple((r.model, r.memory) for r in running if not r.reserved))
    used = sum(r.memory for r in running if not r.reserved)
    later = sum(r.memory for r in running if not r.leaving)
    missing = wanted.memory + later - budget
    if wanted.memory + used <= budget and missing <= 0:
        return Swap(load=True)
    able = sorted((r for r in running if not r.leaving and not r.reserved), key=_cost)
    leaving = _enough(able, missing)
    return Swap(
        load=False,
        stop=tuple(r.model for r in leaving if not r.leases),
        drain=tuple(r.model for r in leaving if r.leases),
    )


def after_swap(wanted: Wanted, running: Sequence[Running], swap: Swap) -> tuple[Running, ...]:
    """What the next model in line must reckon with: the wanted one's memory is spoken for, now and later."""
    if swap.load:
        return (*running, Running(wanted.model, wanted.memory, leases=1))
    going = {*swap.stop, *swap.drain}
    seen = tuple(replace(r, leaving=r.leaving or r.model in going) for r in running)
    return (*seen, Running(wanted.model, wanted.memory, reserved=True))


@dataclass(frozen=True, slots=True)
class Moves:
    """What to do for all who wait for a load."""

    load: tuple[str, ...] = ()
    stop: tuple[tuple[str, str], ...] = ()
    """Idle models to stop, each with the model that its memory is for."""
    drain: frozenset[str] = frozenset()
    """Leased models that take no more leases; all others do."""
    refuse: tuple[tuple[str, TooLarge], ...] = ()


def plan_line(line: Sequence[Wanted], running: Sequence[Running], budget: int) -> Moves:
    """First come, first served: who stands behind gets only what those in front leave."""
    book = tuple(running)
    load: list[str] = []
    stop: list[tuple[str, str]] = []
    drain: set[str] = set()
    refuse: list[tuple[str, TooLarge]] = []
    for wanted in line:
        swap = plan_swap(wanted, book, budget)
        if isinstance(swap, TooLarge):
            refuse.append((wanted.model, swap))
            continue
        book = after_swap(wanted, book, swap)
        drain.update(swap.drain)
        stop += [(model, wanted.model) for model in swap.stop]
        if swap.load:
            load.append(wanted.model)
    return Moves(tuple(load), tuple(stop), frozenset(drain), tuple(refuse))


def _cost(running: Running) -> tuple[bool, bool, int, float]:
    """Two loads count as equally dear within a factor of two, or chance would decide and not use."""
    return running.leases > 0, running.pinned, math.frexp(max(running.reload, QUICK))[1], -running.idle


def _enough(able: Sequence[Running], missing: int) -> tuple[Running, ...]:
    """The first of `able` that free what is missing, without those that turned out to be needless."""
    taken: list[Running] = []
    freed = 0
    for running in able:
        if freed >= missing:
            break
        taken.append(running)
        freed += running.memory
    for running in tuple(reversed(taken)):
        if freed - running.memory >= missing:
            taken.remove(running)
            freed -= running.memory
    return tuple(taken)
