"""Whatever comes in whatever order: the budget holds, no lease is broken, everybody is served who stays.

A house of models is played with the real decisions and without any process: what the supervisor does with their answers
is done here in one line each.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from atrium.core.endpoints import RunnerState
from atrium.decisions.place_request import Displace, Refuse, Serve, Standing, place_request
from atrium.decisions.plan_swap import Running, Wanted, plan_line

BUDGET = 100
QUEUE = 4
SIZES = {"a": 60, "b": 60, "c": 30, "d": 100}
CALLERS = ("anna", "bert", "cleo")


@dataclass
class Model:
    memory: int
    state: RunnerState = RunnerState.STOPPED
    draining: bool = False
    leases: list[int] = field(default_factory=list[int])
    waiting: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])


@dataclass
class House:
    models: dict[str, Model] = field(default_factory=lambda: {name: Model(size) for name, size in SIZES.items()})
    count: int = 0
    served: set[int] = field(default_factory=set[int])
    refused: set[int] = field(default_factory=set[int])
    loads: list[str] = field(default_factory=list[str])

    def ask(self, name: str, caller: str) -> int:
        self.count += 1
        model = self.models[name]
        placing = place_request(self.standing(model, caller))
        if isinstance(placing, Displace):
            greediest = Counter(who for _, who in model.waiting).most_common(1)[0][0]
            last = max(number for number, who in model.waiting if who == greediest)
            model.waiting.remove((last, greediest))
            self.refused.add(last)
            placing = place_request(self.standing(model, caller))
        if isinstance(placing, Refuse):
            self.refused.add(self.count)
        elif isinstance(placing, Serve):
            self.serve(model, self.count)
        else:
            model.waiting.append((self.count, caller))
        self.settle()
        return self.count

    def standing(self, model: Model, caller: str) -> Standing:
        counts = Counter(who for _, who in model.waiting)
        return Standing(
            state=model.state,
            accepting=not model.draining,
            waiting=len(model.waiting),
            queue=QUEUE,
            failed_loads=0,
            most_failed_loads=3,
            retry_in=0.0,
            closing=False,
            own=counts[caller],
            most=max(counts.values(), default=0),
        )

    def serve(self, model: Model, number: int) -> None:
        model.leases.append(number)
        self.served.add(number)

    def leave(self, name: str) -> None:
        """Whoever waits longest for the model goes away."""
        model = self.models[name]
        if model.waiting:
            model.waiting.pop(0)
            if not model.waiting and model.state is RunnerState.STARTING:
                model.state = RunnerState.STOPPING
            self.settle()

    def finish(self, name: str) -> None:
        if self.models[name].leases:
            self.models[name].leases.pop(0)
            self.settle()

    def step(self, name: str) -> None:
        """The model's process gets on: it is ready, or it is gone."""
        model = self.models[name]
        if model.state is RunnerState.STARTING:
            model.state = RunnerState.READY
            self.grant(model)
        elif model.state is RunnerState.STOPPING:
            model.state = RunnerState.STOPPED
        self.settle()

    def grant(self, model: Model) -> None:
        while model.waiting:
            self.serve(model, model.waiting.pop(0)[0])

    def book(self) -> list[Running]:
        return [
            Running(
                name,
                model.memory,
                leases=len(model.leases) + (len(model.waiting) if model.state is RunnerState.STARTING else 0),
                leaving=model.state is RunnerState.STOPPING,
            )
            for name, model in self.models.items()
            if model.state is not RunnerState.STOPPED
        ]

    def settle(self) -> None:
        asleep = {n: m for n, m in self.models.items() if m.waiting and m.state is RunnerState.STOPPED}
        line = [Wanted(n, m.memory) for n, m in sorted(asleep.items(), key=lambda pair: pair[1].waiting[0])]
        moves = plan_line(line, self.book(), BUDGET)
        assert not moves.refuse
        for name in moves.load:
            self.models[name].state = RunnerState.STARTING
            self.loads.append(name)
        for name, _ in moves.stop:
            assert not self.models[name].leases, "a model in use was stopped"
            self.models[name].state = RunnerState.STOPPING
        for name, model in self.models.items():
            model.draining = name in moves.drain
            if model.state is RunnerState.READY and not model.draining:
                self.grant(model)
        assert sum(running.memory for running in self.book()) <= BUDGET


acts = st.lists(
    st.tuples(
        st.sampled_from(("ask", "ask", "leave", "finish", "step")), st.sampled_from("abcd"), st.sampled_from(CALLERS)
    ),
    max_size=80,
)


def played(story: list[tuple[str, str, str]]) -> House:
    house = House()
    for act, name, caller in story:
        match act:
            case "ask":
                house.ask(name, caller)
            case "leave":
                house.leave(name)
            case "finish":
                house.finish(name)
            case _:
                house.step(name)
    return house


@given(acts, st.sampled_from("abcd"))
@settings(max_examples=300)
def test_who_stays_is_served_however_many_go_on_asking_for_other_models(
    story: list[tuple[str, str, str]], rival: str
) -> None:
    house = played(story)
    waiting = {number for model in house.models.values() for number, _ in model.waiting}
    for _ in range(12 * len(SIZES)):
        house.ask(rival, "greedy")
        for name in SIZES:
            house.finish(name)
            house.step(name)
    assert waiting <= house.served | house.refused


@given(acts)
@settings(max_examples=200)
def test_when_all_have_left_nothing_more_is_loaded(story: list[tuple[str, str, str]]) -> None:
    house = played(story)
    for name in SIZES:
        for _ in range(QUEUE):
            house.leave(name)
    loads = len(house.loads)
    for _ in range(3):
        for name in SIZES:
            house.step(name)
            house.finish(name)
    assert len(house.loads) == loads
    assert not any(model.waiting for model in house.models.values())


@given(st.lists(st.sampled_from(CALLERS), max_size=40))
def test_a_full_line_is_shared_evenly_between_those_who_want_in(askers: list[str]) -> None:
    house = House()
    house.ask("d", "holder")
    house.step("d")
    for asker in askers:
        house.ask("a", asker)
    counts = Counter(who for _, who in house.models["a"].waiting)
    assert len(house.models["a"].waiting) <= QUEUE
    asked = Counter(askers)
    assert all(counts[who] + 1 >= min(asked[who], max(counts.values(), default=0)) for who in asked)
