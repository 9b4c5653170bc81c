"""How much one request may hold, whatever its dialect."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RequestBounds:
    """How much one request may hold."""

    depth: int = 200
    items: int = 2_000_000
    messages: int = 10_000
    tools: int = 128
    inputs: int = 2048
