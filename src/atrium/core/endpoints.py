"""Endpoints: HTTP addresses that serve models. A local runner is one, behind a unix socket."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from atrium.core.models import ModelCard


class RunnerState(Enum):
    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Runner:
    """A ready child process that serves one local model."""

    card: ModelCard
    socket: str
    """Path of its unix socket."""
    pid: int
    slots: int
    context: int
    """Tokens per slot, prompt and answer together."""
    fingerprint: str


@dataclass(frozen=True, slots=True)
class RunnerStatus:
    """What a person or a metric sees of a model's runner."""

    model: str
    state: RunnerState
    pid: int | None
    slots: int
    busy: int
    waiting: int
    memory_estimate: int
    """Bytes, estimated before loading."""
    memory_used: int
    """Bytes of resident memory as measured; 0 when not running."""
    expires_in: float | None
    """Seconds until it is unloaded if nobody asks; None: never, or not running."""
    last_error: str = ""
