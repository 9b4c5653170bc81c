"""What may be a model's name."""

from __future__ import annotations

LONGEST = 200
RULE = f"a model's name has 1 to {LONGEST} printable characters, no backslash, and between slashes no '.' or '..'"
STEPS = frozenset({"", ".", ".."})
"""What no part of a path's name is."""


def is_model_name(name: str) -> bool:
    spelled = 0 < len(name) <= LONGEST and all(c.isprintable() and c != "\\" for c in name) and name == name.strip()
    return spelled and STEPS.isdisjoint(name.split("/"))
