"""What a caller is told when a model does not serve."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from atrium.core.errors import (
    AtriumError,
    EngineFailed,
    ModelLoading,
    NotEnoughMemory,
    QueueFull,
    ShuttingDown,
)
from atrium.decisions.place_request import Refusal, Refuse
from atrium.decisions.plan_swap import TooLarge
from atrium.engines.berth import Berth

MIB = 1024 * 1024
LOADING_RETRY = 5.0
CLOSING_RETRY = 10.0


def refused(berth: Berth, refuse: Refuse) -> AtriumError:
    match refuse.why:
        case Refusal.CLOSING:
            return closing()
        case Refusal.QUEUE_FULL:
            return QueueFull(f"too many requests wait for `{berth.name}` already", retry_after=refuse.retry_after)
        case Refusal.BROKEN:
            return broken(berth, retry_after=refuse.retry_after)


def closing() -> ShuttingDown:
    return ShuttingDown("the server is stopping", retry_after=CLOSING_RETRY)


def broken(berth: Berth, *, retry_after: float | None = None) -> EngineFailed:
    return EngineFailed(
        f"the runner of `{berth.name}` {berth.last_error.replace(berth.card.path, berth.name)}",
        hint="Its log is in the data folder's logs, named after the model, and `atrium doctor` checks the machine",
        retry_after=retry_after,
    )


def gone(berth: Berth, reason: str) -> EngineFailed:
    return EngineFailed(f"the runner of `{berth.name}` {reason.replace(berth.card.path, berth.name) or 'was stopped'}")


def the_same(refused: AtriumError) -> Callable[[], AtriumError]:
    """For each who waits an error of its own: one that is raised twice carries two stories."""
    return partial(type(refused), refused.message, hint=refused.hint)


def still_loading(berth: Berth, waited: float) -> ModelLoading:
    return ModelLoading(f"`{berth.name}` was not ready within {waited:g} s", retry_after=LOADING_RETRY)


def too_large(berth: Berth, found: TooLarge, budget: int) -> NotEnoughMemory:
    """`budget` is what models may take when no other program is in the way."""
    used = ", ".join(f"`{model}` {_size(memory)}" for model, memory in found.in_use) or "nothing"
    if found.needed <= budget:
        return NotEnoughMemory(
            f"`{berth.name}` needs about {_size(found.needed)} of memory, and other programs leave"
            f" {_size(found.budget)} for all models; in use now: {used}",
            hint="Try again when the machine has memory left, or stop what else takes it",
            retry_after=LOADING_RETRY,
        )
    return NotEnoughMemory(
        f"`{berth.name}` needs about {_size(found.needed)} of memory, and {_size(found.budget)} is allowed for all"
        f" models; in use now: {used}",
        hint="Raise models.memory, or lower models.context or models.parallel",
    )


def _size(memory: int) -> str:
    return f"{memory / MIB:.0f} MiB"
