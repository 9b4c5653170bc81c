"""What stands around reasoning and tool calls in a model's text."""

from __future__ import annotations

import re
from collections.abc import Iterable

from atrium.dialects.thoughts import THINK, THOUGHT

OPEN = "<tool_call>"
CLOSE = "</tool_call>"
MARKS = (OPEN, CLOSE, THINK, THOUGHT)


def any_of(names: Iterable[str]) -> re.Pattern[str] | None:
    """Finds the longest of these texts; None where there is none."""
    known = sorted((name for name in names if name), key=len, reverse=True)
    return re.compile("|".join(re.escape(name) for name in known)) if known else None
