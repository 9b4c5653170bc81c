"""How much somebody may use: requests and tokens, by user, key and model."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Measure(Enum):
    REQUESTS = "requests"
    TOKENS = "tokens"
    """Prompt and answer together."""


class Period(Enum):
    MINUTE = "minute"
    """From the first use on."""
    DAY = "day"
    """Of the calendar, in UTC."""
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a quota binds: what is None or empty leaves everybody in."""

    user_id: int | None = None
    key_id: int | None = None
    model: str = ""
    """A glob of model names."""
    each_user: bool = False
    """Every user has the amount for themself, anonymous callers one together."""


@dataclass(frozen=True, slots=True)
class Quota:
    id: int
    subject: Subject
    measure: Measure
    period: Period
    amount: int


@dataclass(frozen=True, slots=True)
class Standing:
    """A quota with what is used of it in its period, for one user where it is each user's."""

    quota: Quota
    user_id: int
    """0 where it is not each user's."""
    used: int
    held: int
    ends: float
    """On the epoch's clock."""


@dataclass(frozen=True, slots=True)
class Worst:
    """Tokens that a use of a model may take: at least, and if it goes on for as long as it can."""

    least: int
    most: int
