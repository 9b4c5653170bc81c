"""Which endpoint answers, as tables."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from atrium.core.endpoints import EndpointSpec, Health
from atrium.core.errors import AtriumError, ModelNotFound, ModelUnavailable, NoEndpoint
from atrium.core.kinds import KINDS
from atrium.core.requests import Dialect
from atrium.decisions.break_circuit import CLOSED, Circuit, Outcome, State, ended, lets_through, outcome_of, sent
from atrium.decisions.choose_endpoint import Balancing, Standings, Wanted, choose_endpoint, nobody


@dataclass(frozen=True)
class Standing:
    spec: EndpointSpec
    health: Health = Health.HEALTHY
    circuit: Circuit = CLOSED
    in_flight: int = 0
    models: frozenset[str] = field(default_factory=lambda: frozenset({"m"}))
    warm: bool = False

    def speaks(self, dialect: Dialect) -> bool:
        return dialect is Dialect.OPENAI or self.spec.kind.speaks_ollama

    def has(self, model: str) -> bool:
        return model in self.models

    def holds(self, model: str) -> bool:
        return self.warm and model in self.models


def standing(name: str, kind: str = "openai", *, priority: int = 100, weight: int = 1) -> Standing:
    return Standing(EndpointSpec(name, KINDS[kind], "h", 1, tls=False, base="", priority=priority, weight=weight))


A, B, C = standing("a"), standing("b"), standing("c")
MODEL = Wanted("openai", ("m",))
OPEN = Circuit(State.OPEN, 5, since=0.0)


def names(standings: tuple[Standing, ...]) -> str:
    return "".join(one.spec.name for one in standings)


@pytest.mark.parametrize(
    ("standings", "balancer", "turn", "ranked"),
    [
        ((A, B, C), "priority", 0, "abc"),
        ((A, B, C), "priority", 1, "bca"),
        ((A, B, C), "priority", 5, "cab"),
        ((standing("a", priority=1), B, C), "priority", 1, "cba"),
        ((replace(A, health=Health.BUSY), B), "priority", 0, "ba"),
        ((A, B), "round-robin", 3, "ba"),
        ((standing("a", weight=2), B), "round-robin", 1, "ab"),
        ((standing("a", weight=2), B), "round-robin", 2, "ba"),
        ((replace(A, in_flight=2), replace(B, in_flight=1), C), "least-connections", 0, "cba"),
        ((A, B), "least-connections", 1, "ba"),
        ((replace(A, health=Health.OFFLINE), B), "priority", 0, "b"),
        ((replace(A, models=frozenset[str]()), B), "priority", 0, "b"),
        ((replace(A, circuit=OPEN), B), "priority", 0, "b"),
        ((replace(A, circuit=OPEN),), "priority", 0, "a"),
        ((), "priority", 0, ""),
    ],
)
def test_candidates_are_ranked(standings: tuple[Standing, ...], balancer: str, turn: int, ranked: str) -> None:
    choice = choose_endpoint(MODEL, standings, Balancing(balancer), turn, 1.0)
    assert names(choice.ranked) == ranked
    assert len(choice.ranked) + len(choice.passed) == len(standings)


WARM = replace(C, warm=True)


@pytest.mark.parametrize(
    ("standings", "balancer", "turn", "ranked"),
    [
        ((A, B, WARM), "priority", 0, "cab"),
        ((A, B, WARM), "priority", 1, "cba"),
        ((A, replace(B, warm=True), WARM), "priority", 1, "cba"),
        ((A, replace(standing("c", priority=1), warm=True)), "priority", 0, "ac"),
        ((A, replace(WARM, health=Health.BUSY)), "priority", 0, "ac"),
        ((A, B, WARM), "round-robin", 0, "cab"),
        ((A, B, replace(WARM, in_flight=3)), "least-connections", 0, "cab"),
        ((replace(A, in_flight=1), B, WARM), "least-connections", 0, "cba"),
    ],
)
def test_among_equals_who_has_the_model_in_memory_comes_first(
    standings: tuple[Standing, ...], balancer: str, turn: int, ranked: str
) -> None:
    choice = choose_endpoint(MODEL, standings, Balancing(balancer, warm_first=True), turn, 1.0)
    assert names(choice.ranked) == ranked
    assert choose_endpoint(Wanted("openai"), (A, WARM), Balancing(balancer, warm_first=True), 0, 1.0).ranked[0] is A


@pytest.mark.parametrize(
    ("prefix", "kinds"),
    [
        ("openai", {"openai", "vllm", "ollama", "lmstudio"}),
        ("proxy", {"openai", "vllm", "ollama", "lmstudio"}),
        ("ollama", {"ollama"}),
        ("vllm", {"vllm"}),
    ],
)
def test_a_prefix_is_a_border(prefix: str, kinds: set[str]) -> None:
    all_kinds = [standing(kind, kind) for kind in ("openai", "vllm", "ollama", "lmstudio")]
    choice = choose_endpoint(Wanted(prefix), all_kinds, Balancing(), 0, 0.0)
    assert {one.spec.name for one in choice.ranked} == kinds
    assert all("is of type" in reason for _, reason in choice.passed)


DOWN = replace(B, health=Health.OFFLINE)


@pytest.mark.parametrize(
    ("standings", "known", "error"),
    [
        (Standings((), local=False), False, NoEndpoint),
        (Standings((DOWN,), local=False), True, NoEndpoint),
        (Standings((A,), local=False), False, ModelNotFound),
        (Standings((A, DOWN), local=False), True, ModelUnavailable),
        (Standings((DOWN,), local=True), True, ModelUnavailable),
        (Standings((), local=True), False, ModelNotFound),
    ],
)
def test_a_miss_is_told_as_what_it_is(standings: Standings, known: bool, error: type[AtriumError]) -> None:
    assert isinstance(nobody(MODEL, standings, model="m", known=known, retry=3), error)


def test_a_circuit_opens_after_five_failures_and_lets_one_trial_through() -> None:
    circuit = CLOSED
    for _ in range(5):
        assert lets_through(circuit, 10.0)
        circuit = ended(sent(circuit, 10.0), Outcome.FAILURE, 10.0)
    assert circuit.state is State.OPEN
    assert not lets_through(circuit, 39.9)
    assert lets_through(circuit, 40.0)
    trial = sent(circuit, 40.0)
    assert trial.state is State.HALF_OPEN
    assert not lets_through(trial, 41.0)
    assert ended(trial, Outcome.SUCCESS, 41.0) == CLOSED
    assert ended(trial, Outcome.FAILURE, 41.0).state is State.OPEN
    assert lets_through(ended(trial, Outcome.NEITHER, 41.0), 41.0)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, "success"),
        (404, "success"),
        (429, "success"),
        (500, "failure"),
        (503, "failure"),
        (501, "neither"),
        (505, "neither"),
    ],
)
def test_what_a_status_says(status: int, outcome: str) -> None:
    assert outcome_of(status).value == outcome
