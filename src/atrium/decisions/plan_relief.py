"""What to do when the runners take more memory than they may, before the kernel does something worse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measured:
    """A running model with what it really takes. Memory in bytes, times in seconds."""

    model: str
    memory: int
    reckoned: int
    """What it was reckoned with when it was loaded."""
    leases: int = 0
    reload: float = 0.0
    """What loading it took."""
    leaving: bool = False
    """It is stopping already, or stops when its leases end."""

    @property
    def excess(self) -> int:
        return max(0, self.memory - self.reckoned)


@dataclass(frozen=True, slots=True)
class Relief:
    stop: tuple[str, ...] = ()
    """Idle models to stop now."""
    drain: tuple[str, ...] = ()
    """Models in use that take no more leases, and are loaded smaller when their leases have ended."""
    kill: str | None = None
    """The one model to end at once with all its answers, since the machine has no memory left to wait with."""


def plan_relief(running: Sequence[Measured], allowed: int, *, critical: bool) -> Relief:
    """Idle models leave first, of these the one that broke its word, then the cheapest to load again.

    Of those in use the worst is drained. `allowed` is what all may take together; `critical` says that the machine is
    about to run out of memory.
    """
    over = sum(one.memory for one in running) - allowed
    if over <= 0:
        return Relief()
    pending = over - sum(one.memory for one in running if one.leaving)
    stop: list[str] = []
    drain: list[str] = []
    for one in sorted((one for one in running if not one.leaving and not one.leases), key=_cheapest):
        if pending > 0:
            stop.append(one.model)
            pending -= one.memory
    for one in sorted((one for one in running if not one.leaving and one.leases), key=_worst):
        if pending > 0:
            drain.append(one.model)
            pending -= one.memory
    idle = sum(one.memory for one in running if not one.leases)
    in_use = [one for one in running if one.leases]
    kill = min(in_use, key=_worst).model if critical and in_use and idle < over else None
    return Relief(tuple(stop), tuple(name for name in drain if name != kill), kill)


def _cheapest(one: Measured) -> tuple[int, float, int]:
    return -one.excess, one.reload, -one.memory


def _worst(one: Measured) -> tuple[int, int]:
    return -one.excess, -one.memory
