"""What happens to a request for a local model: served at once, joined to a load, put in line, or refused."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from atrium.core.endpoints import RunnerState


@dataclass(frozen=True, slots=True)
class Standing:
    """How one model stands when a request for it comes."""

    state: RunnerState
    accepting: bool
    """False: the runner is about to be unloaded and takes no new leases."""
    waiting: int
    queue: int
    """Requests that may wait for one model."""
    failed_loads: int
    """Loads that failed in a row."""
    most_failed_loads: int
    retry_in: float
    """Seconds until a load may be tried again; 0 or less: now."""
    closing: bool
    own: int = 0
    """Requests of this caller's that wait for the model already."""
    most: int = 0
    """The same of the caller who has the most of them."""


class Refusal(Enum):
    CLOSING = "closing"
    QUEUE_FULL = "queue_full"
    BROKEN = "broken"
    """Loading failed too often, and it is too early to try again."""


@dataclass(frozen=True, slots=True)
class Serve:
    """The runner is ready."""


@dataclass(frozen=True, slots=True)
class Join:
    """The load is on its way."""


@dataclass(frozen=True, slots=True)
class Wait:
    """A load must begin first, when memory and back-off allow."""


@dataclass(frozen=True, slots=True)
class Displace:
    """The line is full, and most of it is one caller's: the last of that caller's is refused, then ask again."""


@dataclass(frozen=True, slots=True)
class Refuse:
    why: Refusal
    retry_after: float


Placing = Serve | Join | Wait | Displace | Refuse

FULL_RETRY = 5.0
CLOSING_RETRY = 10.0


def place_request(standing: Standing) -> Placing:
    ready = standing.state is RunnerState.READY and standing.accepting
    if standing.closing:
        return Refuse(Refusal.CLOSING, CLOSING_RETRY)
    if standing.waiting >= standing.queue:
        if standing.own + 1 < standing.most:
            return Displace()
        return Refuse(Refusal.QUEUE_FULL, FULL_RETRY)
    if ready:
        return Serve()
    if standing.state is RunnerState.STARTING and standing.accepting:
        return Join()
    if standing.failed_loads >= standing.most_failed_loads and standing.retry_in > 0:
        return Refuse(Refusal.BROKEN, standing.retry_in)
    return Wait()
