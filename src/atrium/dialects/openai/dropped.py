"""What was dropped of a request, by the names that OpenAI's callers use, in the order in which they wrote them."""

from __future__ import annotations

from collections.abc import Sequence

from atrium.core.requests import Chat, Completion

SPELLED = {"think": ("reasoning_effort", "thinking"), "tools": ("tools", "functions")}
"""Our words that a request may spell in several ways."""


def dropped_names(request: Chat | Completion, told: Sequence[str]) -> tuple[str, ...]:
    """`told`: what the model could not honour, beside what the request itself names; paths such as `tools.not`."""
    names = [*request.dropped, *(spelled for name in told for spelled in spellings(name, request.fields))]
    places = {name: place for place, name in enumerate(request.fields)}
    return tuple(sorted(dict.fromkeys(names), key=lambda name: places.get(name.split(".")[0], len(places))))


def spellings(name: str, fields: Sequence[str]) -> list[str]:
    top, dot, rest = name.partition(".")
    return [f"{spelled}{dot}{rest}" for spelled in SPELLED.get(top, (top,)) if spelled in fields] or [name]
