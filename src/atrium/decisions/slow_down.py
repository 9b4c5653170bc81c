"""How long somebody who guesses passwords has to wait."""

from __future__ import annotations

from dataclasses import dataclass

FREE_TRIES = 5
HOT = 100
"""Wrong ones for a name from wherever, after which an address has one free try for it."""
FIRST_WAIT = 5.0
LONGEST_WAIT = 300.0
FORGOTTEN_AFTER = 3600.0
"""Seconds without a try after which nothing is held against anybody."""


@dataclass(frozen=True, slots=True)
class Tries:
    """Wrong ones in a row, and when the last was, on a monotonic clock."""

    count: int = 0
    at: float = 0.0


def wait_before(tries: Tries, now: float, free: int = FREE_TRIES) -> float:
    """Seconds until the next try is taken: none for the first few, then twice as long each time."""
    over = tries.count - free
    if over < 0 or now - tries.at > FORGOTTEN_AFTER:
        return 0.0
    return max(0.0, tries.at + min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(over, 10)) - now)


def one_more(tries: Tries, now: float) -> Tries:
    return Tries(1 if now - tries.at > FORGOTTEN_AFTER else tries.count + 1, now)


def is_hot(tries: Tries, now: float) -> bool:
    """Whether so many strangers guess at a name that nobody gets more than one try for free."""
    return tries.count >= HOT and now - tries.at <= FORGOTTEN_AFTER
