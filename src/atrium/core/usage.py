"""What was used, by whom, with which model."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import msgspec

HOUR = 3600


class UsageRecord(msgspec.Struct, gc=False):
    """One request, or several alike that were folded together when too many came to be written one by one."""

    at: float
    """Seconds of the epoch."""
    door: str
    """`openai`, `ollama`, `lollms`, or `gateway`."""
    user_id: int
    """0: the anonymous user."""
    key_id: int
    """0: none; a session, or nobody's."""
    model: str
    endpoint: str
    """Empty for the built-in engine."""
    requests: int
    """0 for a listing, which counts as a hit of its door alone, and for what was used beside a request."""
    failures: int
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    exact: bool
    """The engine or endpoint said how many tokens; else they are an estimate."""
    hits: int = 1


@dataclass(frozen=True, slots=True)
class Sums:
    requests: int = 0
    failures: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Span:
    """Which usage is meant; hours are whole."""

    since: datetime
    until: datetime
    user_id: int | None = None
    key_id: int | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class UsageRow:
    """Sums of one hour."""

    hour: datetime
    door: str
    user_id: int
    key_id: int
    model: str
    sums: Sums


@dataclass(frozen=True, slots=True)
class DoorHits:
    door: str
    user_id: int
    hits: int
    last_at: datetime
