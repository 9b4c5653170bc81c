"""What every engine must say of a model before it is loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from atrium.core.models import ModelCard


@dataclass(frozen=True, slots=True)
class Plan:
    """How a model will run."""

    slots: int
    context: int
    """Tokens per slot."""
    memory: int
    """Bytes of resident memory, estimated."""
    certain: int
    """Bytes of these that it takes whatever was measured once: weights and caches, which use fills in time."""
    fingerprint: str
    """Names everything that the text depends on: weights, engine, settings."""
    command: tuple[str, ...]
    """Program and arguments, without those that every worker takes (`workers/parent.py`)."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    threads: int = 0
    """0: the engine's own choice."""


class Recipe(Protocol):
    def plan(self, card: ModelCard, budget: int, *, shrinks: int = 0) -> Plan:
        """How to run the model on a machine that has `budget` bytes for all models.

        Each of `shrinks` makes it about half as large, by its context or its slots, until it cannot be smaller: then
        the plan is the one before.

        Raises EngineMissing where the engine is not installed, InvalidValue for a card that it cannot run.
        """
        ...


def fingerprint(*parts: str | int) -> str:
    """In the form that OpenAI's clients know as `system_fingerprint`."""
    return f"fp_{hashlib.sha256(repr(parts).encode()).hexdigest()[:12]}"
