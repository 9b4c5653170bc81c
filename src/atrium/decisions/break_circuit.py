"""When to keep requests from an endpoint that keeps failing. One circuit breaker, for all that is relayed.

closed --5 failures in a row--> open --a rest--> half-open --one trial--> closed | open
Source: the gateway's contract, section 6. Health checks are separate and never close a breaker.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

FAILURES_TO_OPEN = 5
SECONDS_OPEN = 30.0
NEUTRAL = frozenset({501, 505})


class State(Enum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Outcome(Enum):
    SUCCESS = "success"
    FAILURE = "failure"
    NEITHER = "neither"


@dataclass(frozen=True, slots=True)
class Circuit:
    """`since` is the moment it opened, in seconds of the clock that the caller uses throughout."""

    state: State = State.CLOSED
    failures: int = 0
    since: float = 0.0
    rest: float = SECONDS_OPEN
    trial: bool = False
    """Half-open with its one trial request under way."""


CLOSED = Circuit()


def outcome_of(status: int) -> Outcome:
    """What an answered status says about the endpoint: 5xx is a failure, though 501 and 505 are neither."""
    if status in NEUTRAL:
        return Outcome.NEITHER
    return Outcome.FAILURE if status >= 500 else Outcome.SUCCESS


def lets_through(circuit: Circuit, now: float) -> bool:
    """May a request go to this endpoint while others could take it?"""
    if circuit.state is State.OPEN:
        return now - circuit.since >= circuit.rest
    return not (circuit.state is State.HALF_OPEN and circuit.trial)


def sent(circuit: Circuit, now: float) -> Circuit:
    """The circuit after a request was sent: the first after the rest is the trial."""
    if circuit.state is State.CLOSED or not lets_through(circuit, now):
        return circuit
    return replace(circuit, state=State.HALF_OPEN, trial=True)


def ended(circuit: Circuit, outcome: Outcome, now: float, rest: float = SECONDS_OPEN) -> Circuit:
    """The circuit after a request ended; one that its client cancelled is NEITHER. `rest`: seconds it stays open."""
    if outcome is Outcome.SUCCESS:
        return CLOSED
    if outcome is Outcome.NEITHER:
        return replace(circuit, trial=False) if circuit.trial else circuit
    failures = circuit.failures + 1
    if circuit.state is State.CLOSED and failures < FAILURES_TO_OPEN:
        return replace(circuit, failures=failures)
    return Circuit(State.OPEN, failures, now, rest)
