"""Where a request goes, as a table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atrium.core.endpoints import RunnerState
from atrium.decisions.place_request import (
    Displace,
    Join,
    Placing,
    Refusal,
    Refuse,
    Serve,
    Standing,
    Wait,
    place_request,
)

CALM = Standing(
    state=RunnerState.STOPPED,
    accepting=True,
    waiting=0,
    queue=4,
    failed_loads=0,
    most_failed_loads=3,
    retry_in=0.0,
    closing=False,
)
READY = replace(CALM, state=RunnerState.READY)
STARTING = replace(CALM, state=RunnerState.STARTING)
BROKEN = replace(CALM, state=RunnerState.DEAD, failed_loads=3, retry_in=7.0)


@pytest.mark.parametrize(
    ("standing", "placing"),
    [
        pytest.param(
            replace(CALM, waiting=4, own=1, most=3), Displace(), id="one who has less gets a place of the most"
        ),
        pytest.param(replace(CALM, waiting=4, own=2, most=3), Refuse(Refusal.QUEUE_FULL, 5.0), id="not for nothing"),
        pytest.param(CALM, Wait(), id="a sleeping model must be loaded"),
        pytest.param(READY, Serve(), id="a ready model serves"),
        pytest.param(STARTING, Join(), id="a load is joined"),
        pytest.param(replace(READY, accepting=False), Wait(), id="a model about to leave serves nobody new"),
        pytest.param(replace(STARTING, accepting=False), Wait(), id="a load that is being given up is not joined"),
        pytest.param(replace(CALM, state=RunnerState.STOPPING), Wait(), id="a stopping model is loaded again"),
        pytest.param(replace(CALM, waiting=3), Wait(), id="the last place in the queue is taken"),
        pytest.param(replace(CALM, waiting=4), Refuse(Refusal.QUEUE_FULL, 5.0), id="a full queue refuses"),
        pytest.param(replace(READY, waiting=4), Refuse(Refusal.QUEUE_FULL, 5.0), id="a full line for slots refuses"),
        pytest.param(BROKEN, Refuse(Refusal.BROKEN, 7.0), id="a broken model refuses until it may be tried again"),
        pytest.param(replace(BROKEN, retry_in=0.0), Wait(), id="a broken model is tried again in time"),
        pytest.param(replace(BROKEN, failed_loads=2), Wait(), id="fewer failures are waited out"),
        pytest.param(replace(READY, closing=True), Refuse(Refusal.CLOSING, 10.0), id="a stopping server refuses"),
    ],
)
def test_a_request_is_placed(standing: Standing, placing: Placing) -> None:
    assert place_request(standing) == placing
