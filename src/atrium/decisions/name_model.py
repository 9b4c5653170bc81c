"""What may be a model's name."""

from __future__ import annotations

LONGEST = 200
RULE = f"a model's name has 1 to {LONGEST} printable characters and no backslash"


def is_model_name(name: str) -> bool:
    return 0 < len(name) <= LONGEST and all(c.isprintable() and c != "\\" for c in name) and name == name.strip()
