"""Which models leave memory: a table, and what holds for every table."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atrium.decisions.plan_swap import Running, Swap, TooLarge, Wanted, after_swap, plan_swap

IDLE = Running("idle", 40, idle=5.0, reload=1.0)
OLDER = Running("older", 40, idle=50.0, reload=1.0)
COSTLY = Running("costly", 40, idle=500.0, reload=60.0)
PINNED = Running("pinned", 40, idle=500.0, pinned=True)
LEASED = Running("leased", 40, leases=1)
LEAVING = Running("leaving", 40, leaving=True)
SMALL = Running("small", 5, idle=9.0)


@pytest.mark.parametrize(
    ("running", "swap"),
    [
        pytest.param([], Swap(load=True), id="an empty house has room"),
        pytest.param([IDLE], Swap(load=True), id="what fits beside the others loads"),
        pytest.param([IDLE, OLDER], Swap(load=False, stop=("older",)), id="the longest idle leaves first"),
        pytest.param([COSTLY, IDLE], Swap(load=False, stop=("idle",)), id="the cheapest to load again leaves first"),
        pytest.param(
            [replace(OLDER, reload=1.2), IDLE], Swap(load=False, stop=("older",)), id="about as dear is as dear"
        ),
        pytest.param([PINNED, COSTLY], Swap(load=False, stop=("costly",)), id="a pinned model leaves last"),
        pytest.param([PINNED, LEASED], Swap(load=False, stop=("pinned",)), id="but before one in use is drained"),
        pytest.param([LEASED, IDLE], Swap(load=False, stop=("idle",)), id="a leased model is left alone"),
        pytest.param([SMALL, OLDER, IDLE], Swap(load=False, stop=("older",)), id="nobody is stopped in vain"),
        pytest.param([LEAVING, IDLE], Swap(load=False), id="what leaves already is waited for"),
        pytest.param([LEASED, LEASED], Swap(load=False, drain=("leased",)), id="when all are in use one is drained"),
    ],
)
def test_a_model_of_fifty_in_a_house_of_a_hundred(running: list[Running], swap: Swap) -> None:
    assert plan_swap(Wanted("wanted", 50), running, 100) == swap


def test_a_model_that_can_never_fit_is_refused_with_the_numbers() -> None:
    assert plan_swap(Wanted("wanted", 101), [LEASED], 100) == TooLarge(101, 100, (("leased", 40),))


def test_a_later_model_does_not_take_the_room_an_earlier_one_waits_for() -> None:
    first, second = Wanted("first", 80), Wanted("second", 30)
    running = (LEASED,)
    swap = plan_swap(first, running, 100)
    assert swap == Swap(load=False, drain=("leased",))
    assert isinstance(swap, Swap)
    assert plan_swap(second, after_swap(first, running, swap), 100) == Swap(load=False)


def test_a_later_model_that_fits_beside_both_loads_at_once() -> None:
    first, second = Wanted("first", 80), Wanted("second", 20)
    swap = plan_swap(first, (LEASED,), 100)
    assert isinstance(swap, Swap)
    assert plan_swap(second, after_swap(first, (LEASED,), swap), 100) == Swap(load=True)


sizes = st.integers(min_value=0, max_value=100)
models = st.builds(
    Running,
    model=st.uuids().map(str),
    memory=sizes,
    leases=st.integers(min_value=0, max_value=2),
    idle=st.floats(min_value=0, max_value=1e6),
    reload=st.floats(min_value=0, max_value=1e3),
    pinned=st.booleans(),
    leaving=st.booleans(),
)


@given(st.lists(sizes, max_size=4), st.lists(models, max_size=6), st.integers(min_value=0, max_value=300))
def test_no_line_of_wishes_breaks_the_budget_or_a_lease(line: list[int], running: list[Running], budget: int) -> None:
    book = tuple(running)
    for number, memory in enumerate(line):
        wanted = Wanted(f"wanted-{number}", memory)
        swap = plan_swap(wanted, book, budget)
        if isinstance(swap, TooLarge):
            assert memory > budget
            continue
        leased = {r.model for r in book if r.leases}
        assert leased.isdisjoint(swap.stop)
        assert leased.issuperset(swap.drain)
        assert not {r.model for r in book if r.leaving} & {*swap.stop, *swap.drain}
        used = sum(r.memory for r in book if not r.reserved)
        if swap.load:
            assert not (swap.stop or swap.drain)
            assert used + memory <= budget
        book = after_swap(wanted, book, swap)


@given(st.lists(models, max_size=6), sizes, st.integers(min_value=100, max_value=300))
def test_when_those_that_were_told_to_have_left_the_model_fits(
    running: list[Running], memory: int, budget: int
) -> None:
    wanted = Wanted("wanted", memory)
    swap = plan_swap(wanted, running, budget)
    assert isinstance(swap, Swap)
    going = {*swap.stop, *swap.drain}
    rest = [r for r in running if not r.leaving and r.model not in going]
    assert plan_swap(wanted, rest, budget) == Swap(load=True)
