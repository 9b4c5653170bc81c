"""How much memory a model must be reckoned with, from what was estimated and what was seen."""

from __future__ import annotations

MARGIN = 16
"""A model that was seen to need less than its estimate keeps this part of it in reserve: use makes it grow."""


def reckon_memory(estimate: int, certain: int, seen: int) -> int:
    """Bytes. `certain` is what it will take whatever happens, `seen` the most it ever took with these settings, or 0.

    More than was estimated counts as it was seen; less counts too, but never less than what is certain.
    """
    if not seen:
        return max(estimate, certain)
    return max(seen, certain, min(estimate, seen + estimate // MARGIN))
