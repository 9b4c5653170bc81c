"""How a part tells of what happened: the event's name, of those in `telemetry/events.py`, and its fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping

Tell = Callable[[str, Mapping[str, object]], None]


def nobody_hears(event: str, fields: Mapping[str, object]) -> None:
    """For a part that stands by itself."""
