"""Which store a caller means by a word: its id, or else its name. Names are unique for their owner alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from atrium.core.documents import Permission
from atrium.core.errors import InvalidValue, NotFound

T = TypeVar("T")
MOST_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Label:
    id: str
    name: str
    owner: str
    permission: Permission
    """What the caller is to it."""


def name_store(given: str, seen: Sequence[T], label: Callable[[T], Label]) -> T:
    """Of those that the caller sees: the one of that id, else of that name their own, else one shared with them, else a
    public one. Whatever others call theirs, nobody slips a store of their own in the place of the one that is meant.

    Raises NotFound; InvalidValue for a name that stands for several.
    """
    labels = [(label(one), one) for one in seen]
    named = [(own, one) for own, one in labels if own.name == given]
    fitting = (
        [pair for pair in labels if pair[0].id == given]
        or [pair for pair in named if pair[0].permission is Permission.OWNER]
        or [pair for pair in named if pair[0].permission is not Permission.PUBLIC]
        or named
    )
    if not fitting:
        raise NotFound(f"There is no store '{given[:200]}'", param="stores")
    if len(fitting) > 1:
        owners = ", ".join(own.owner for own, _ in fitting[:MOST_SHOWN])
        raise InvalidValue(
            f"Several stores are named '{given[:200]}', of {owners}", hint="Name it by its id", param="stores"
        )
    return fitting[0][1]
