"""What a caller left open is filled in: from the model's own settings, then from the dialect's defaults."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from atrium.core.requests import Sampling

OPEN = Sampling()


def fill_sampling(given: Sampling, *fallbacks: Sampling) -> Sampling:
    """`given` with each field that it leaves open taken from the first fallback that says something."""
    filled: dict[str, Any] = {}
    for one in fields(Sampling):
        name = one.name
        blank = getattr(OPEN, name)
        if getattr(given, name) != blank:
            continue
        for fallback in fallbacks:
            value = getattr(fallback, name)
            if value != blank:
                filled[name] = value
                break
    return replace(given, **filled) if filled else given
