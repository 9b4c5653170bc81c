"""Which endpoint answers: a ranked list of candidates, and for every other endpoint the reason. Total: it never fails.

Source: contract `olla.md`, sections 3.1, 5, 8 and 13.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import msgspec

from atrium.core.endpoints import ROUTABLE, EndpointSpec, Health
from atrium.core.errors import AtriumError, ModelNotFound, ModelUnavailable, NoEndpoint
from atrium.core.kinds import ANY_OPENAI, EVERY, Kind
from atrium.core.requests import Dialect
from atrium.decisions.break_circuit import Circuit, lets_through


class Standing(Protocol):
    """What is known of an endpoint at this moment."""

    @property
    def spec(self) -> EndpointSpec: ...
    @property
    def health(self) -> Health: ...
    @property
    def circuit(self) -> Circuit: ...
    @property
    def in_flight(self) -> int: ...

    def speaks(self, dialect: Dialect) -> bool: ...

    def has(self, model: str) -> bool:
        """Whether its list has this folded name."""
        ...

    def holds(self, model: str) -> bool:
        """Whether it has this folded name in memory, as far as it tells."""
        ...


S = TypeVar("S", bound=Standing)


class Wanted(msgspec.Struct, frozen=True, gc=False):
    prefix: str
    """Canonical kind, or `openai` or `proxy` for many kinds."""
    models: tuple[str, ...] = ()
    """Folded names, any of which will do; none: any endpoint."""
    target: str = ""
    """The one endpoint that must answer."""
    dialect: Dialect | None = None
    """What the endpoint must speak; None: anything."""


class Balancing(msgspec.Struct, frozen=True, gc=False):
    """How one of several candidates is chosen."""

    balancer: str = "priority"
    warm_first: bool = False
    """Among equals, those that have the model in memory come first."""


class Choice(msgspec.Struct, Generic[S], frozen=True, gc=False):
    ranked: tuple[S, ...]
    passed: tuple[tuple[str, str], ...]
    """Name of each endpoint that was passed over, with the reason."""


def qualifies(kind: Kind, prefix: str) -> bool:
    """A prefix is a border: only `openai` and `proxy` mean several kinds."""
    return prefix == EVERY or kind.name == prefix or (prefix == ANY_OPENAI and kind.speaks_openai)


def choose_endpoint(
    wanted: Wanted, standings: Sequence[S], balancing: Balancing, turn: int, now: float, *, anyone: bool = False
) -> Choice[S]:
    """`turn` counts the requests of this prefix and model; `anyone` overlooks who lists the model."""
    fit: list[S] = []
    rested: list[S] = []
    passed: list[tuple[str, str]] = []
    for one in standings:
        reason = unfit(one, wanted, anyone=anyone)
        if reason:
            passed.append((one.spec.name, reason))
        elif lets_through(one.circuit, now):
            fit.append(one)
        else:
            rested.append(one)
    warm = wanted.models if balancing.warm_first else ()
    if fit:
        passed += [(one.spec.name, "its circuit is open") for one in rested]
        return Choice(tuple(ranked(fit, balancing.balancer, turn, warm)), tuple(passed))
    # With nobody else left its true error serves the caller better than an invented one.
    return Choice(tuple(ranked(rested, balancing.balancer, turn, warm)), tuple(passed))


def unfit(one: Standing, wanted: Wanted, *, anyone: bool) -> str:
    if not qualifies(one.spec.kind, wanted.prefix):
        return f"it is of type {one.spec.kind.name}"
    if wanted.dialect and not one.speaks(wanted.dialect):
        return f"it does not speak {wanted.dialect.value}"
    if wanted.target and one.spec.name != wanted.target:
        return "another endpoint was named"
    if one.health not in ROUTABLE:
        return f"it is {one.health.value}"
    if wanted.models and not anyone and not any(one.has(model) for model in wanted.models):
        return "it does not list the model"
    return ""


def ranked(fit: Sequence[S], balancer: str, turn: int, warm: Sequence[str]) -> list[S]:
    """`warm`: folded names, of which those who have one in memory come before their equals; none: all are alike."""
    if len(fit) <= 1:
        return list(fit)
    ranks = [rank(one, balancer, warm) for one in fit]
    ordered: list[S] = []
    for own in sorted(set(ranks), reverse=True):
        equals = by_turn([one for one, its in zip(fit, ranks, strict=True) if its == own], turn)
        ordered += sorted(equals, key=lambda one: one.in_flight) if balancer == "least-connections" else equals
    return ordered


def rank(one: Standing, balancer: str, warm: Sequence[str]) -> tuple[int, bool, bool]:
    """Who has the same one is an equal, and takes turns with the others."""
    holds = any(one.holds(model) for model in warm)
    if balancer == "priority":
        return one.spec.priority, one.health is Health.HEALTHY, holds
    return 0, True, holds


def by_turn(fit: Sequence[S], turn: int) -> list[S]:
    """Whose turn it is, first, as often as its weight says; the others behind it in order."""
    weights = [one.spec.weight for one in fit]
    place = turn % sum(weights)
    for index, weight in enumerate(weights):
        if place < weight:
            return [*fit[index:], *fit[:index]]
        place -= weight
    return list(fit)


@dataclass(frozen=True, slots=True)
class Standings:
    """Everybody who was looked at."""

    endpoints: Sequence[Standing]
    local: bool
    """The built-in engine was among them, and is up."""


def nobody(wanted: Wanted, standings: Standings, *, model: str, known: bool, retry: float) -> AtriumError:
    """Why no endpoint could be chosen. `known`: some qualifying endpoint has listed the model."""
    target = wanted.target
    of_kind = [one for one in standings.endpoints if qualifies(one.spec.kind, wanted.prefix)]
    able = [one for one in of_kind if one.health in ROUTABLE and target in ("", one.spec.name)]
    word = "configured" if wanted.prefix == EVERY else wanted.prefix
    if target and not able:
        return NoEndpoint(f"No healthy endpoint is named '{target[:100]}'", retry_after=retry)
    if not wanted.models or not (able or standings.local):
        return NoEndpoint(
            f"No {word} endpoint is up", hint="GET /internal/status tells which there are", retry_after=retry
        )
    if known:
        return ModelUnavailable(
            f"Model '{model[:200]}' is known, but only on endpoints that are down now", param="model", retry_after=retry
        )
    hint = "GET /olla/models lists the names"
    return ModelNotFound(f"Model '{model[:200]}' is not served by any {word} endpoint", hint=hint, param="model")
