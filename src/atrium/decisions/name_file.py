"""File names are names: directory parts, control characters and what a file system may not like are dropped."""

from __future__ import annotations

import re
import unicodedata

LONGEST = 255
"""Characters."""
CONTROLS = re.compile(r"[\x00-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def name_file(given: str) -> str:
    """Empty when nothing is left that could be a name."""
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", given))[-1]
    name = CONTROLS.sub("", last).strip()
    if name in ("", ".", ".."):
        return ""
    if len(name) <= LONGEST:
        return name
    stem, dot, ending = name.rpartition(".")
    kept = f"{dot}{ending}" if stem and len(ending) <= 16 else ""
    return name[: LONGEST - len(kept)] + kept
