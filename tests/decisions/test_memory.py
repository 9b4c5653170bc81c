"""What models are reckoned with, and who leaves when they take more: tables, and what holds for every table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atrium.decisions.plan_relief import Measured, Relief, plan_relief
from atrium.decisions.reckon_memory import reckon_memory


@pytest.mark.parametrize(
    ("certain", "seen", "memory"),
    [
        pytest.param(0, 0, 160, id="what was never seen is what was estimated"),
        pytest.param(0, 200, 200, id="more than was estimated counts as it was seen"),
        pytest.param(0, 100, 110, id="less leaves a margin"),
        pytest.param(0, 155, 160, id="but the margin is not above the estimate"),
        pytest.param(140, 100, 140, id="what is certain counts whatever was seen"),
    ],
)
def test_an_estimate_of_160_is_corrected(certain: int, seen: int, memory: int) -> None:
    assert reckon_memory(160, certain, seen) == memory


IDLE = Measured("idle", 40, 40, reload=5.0)
CHEAP = Measured("cheap", 40, 40, reload=1.0)
BROKE = Measured("broke", 40, 20, reload=9.0)
BUSY = Measured("busy", 40, 40, leases=1)
WORST = Measured("worst", 80, 20, leases=1)
LEAVING = Measured("leaving", 40, 40, leases=1, leaving=True)


@pytest.mark.parametrize(
    ("running", "critical", "relief"),
    [
        pytest.param([IDLE, BUSY], False, Relief(), id="within bounds nobody leaves"),
        pytest.param([IDLE, CHEAP, BUSY], False, Relief(stop=("cheap",)), id="the cheapest to load again leaves"),
        pytest.param([CHEAP, BROKE, BUSY], False, Relief(stop=("broke",)), id="but first who broke its word"),
        pytest.param([BUSY, WORST], False, Relief(drain=("worst",)), id="of those in use the worst is drained"),
        pytest.param([IDLE, WORST], False, Relief(stop=("idle",)), id="idle ones leave before any in use"),
        pytest.param([LEAVING, BUSY, IDLE], False, Relief(), id="what leaves already is waited for"),
        pytest.param([BUSY, WORST], True, Relief(kill="worst"), id="without memory the worst ends at once"),
        pytest.param([IDLE, CHEAP, BUSY], True, Relief(stop=("cheap",)), id="unless stopping idle ones is enough"),
    ],
)
def test_a_house_of_a_hundred_is_relieved(running: list[Measured], critical: bool, relief: Relief) -> None:
    assert plan_relief(running, 100, critical=critical) == relief


models = st.builds(
    Measured,
    model=st.uuids().map(str),
    memory=st.integers(0, 100),
    reckoned=st.integers(0, 100),
    leases=st.integers(0, 2),
    reload=st.floats(0, 100),
    leaving=st.booleans(),
)


@given(st.lists(models, max_size=8), st.integers(0, 300), st.booleans())
def test_relief_brings_back_what_is_missing_and_stops_nobody_in_use(
    running: list[Measured],
    allowed: int,
    critical: bool,
) -> None:
    relief = plan_relief(running, allowed, critical=critical)
    by_name = {one.model: one for one in running}
    going = {*relief.stop, *relief.drain, relief.kill}
    assert not any(by_name[name].leases for name in relief.stop)
    assert all(by_name[name].leases for name in relief.drain)
    assert critical or relief.kill is None
    staying = sum(one.memory for one in running if not one.leaving and one.model not in going)
    assert staying <= allowed or all(one.leaving for one in running)
