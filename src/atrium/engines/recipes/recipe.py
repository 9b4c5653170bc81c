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
    fingerprint: str
    """Names everything that the text depends on: weights, engine, settings."""
    command: tuple[str, ...]
    """Program and arguments, without those that every worker takes (`workers/parent.py`)."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    threads: int = 0
    """0: the engine's own choice."""


class Recipe(Protocol):
    def plan(self, card: ModelCard, budget: int) -> Plan:
        """How to run the model on a machine that has `budget` bytes for all models.

        Raises EngineMissing where the engine is not installed, InvalidValue for a card that it cannot run.
        """
        ...


def fingerprint(*parts: str | int) -> str:
    """In the form that OpenAI's clients know as `system_fingerprint`."""
    return f"fp_{hashlib.sha256(repr(parts).encode()).hexdigest()[:12]}"
