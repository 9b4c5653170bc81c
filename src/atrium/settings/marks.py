"""Marks on the fields of the settings tree: their documentation, units and bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal


@dataclass(frozen=True, slots=True)
class Unit:
    """Marks a number that may be written with a unit."""

    name: Literal["duration", "size", "share", "stay"]


@dataclass(frozen=True, slots=True)
class Doc:
    """One line for `docs/configuration.md`."""

    text: str


@dataclass(frozen=True, slots=True)
class AtLeast:
    """The smallest number allowed."""

    value: float


@dataclass(frozen=True, slots=True)
class AtMost:
    """The largest number allowed."""

    value: float


@dataclass(frozen=True, slots=True)
class Secret:
    """Never printed by `atrium config show`."""


Duration = Annotated[float, Unit("duration"), AtLeast(0)]
Stay = Annotated[float, Unit("stay")]
"""A duration, or `never` (any negative one) for what does not end by itself."""
Size = Annotated[int, Unit("size"), AtLeast(0)]
