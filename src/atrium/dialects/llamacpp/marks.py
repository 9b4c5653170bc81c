"""What stands around reasoning and tool calls in a model's text."""

from __future__ import annotations

OPEN = "<tool_call>"
CLOSE = "</tool_call>"
THINK = "<think>"
THOUGHT = "</think>"
MARKS = (OPEN, CLOSE, THINK, THOUGHT)
