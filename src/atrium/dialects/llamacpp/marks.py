"""What stands around reasoning and tool calls in a model's text."""

from __future__ import annotations

from atrium.dialects.thoughts import THINK, THOUGHT

OPEN = "<tool_call>"
CLOSE = "</tool_call>"
MARKS = (OPEN, CLOSE, THINK, THOUGHT)
