"""What the scheduler itself costs: a lease and a turn on a loaded model, and going to and fro between two of them.

The supervisor is the real one, its runners are fakes, and no answer is asked for: only the deciding is measured.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import uvloop

from atrium.core.models import ModelCard
from atrium.core.people import Caller
from atrium.decisions.fake_address import fake_card
from atrium.engines.bounds import Bounds, Folders
from atrium.engines.placement.local import LocalPlacement, child_environment
from atrium.engines.recipes.fake import FakeRecipe
from atrium.engines.supervisor import Supervisor
from bench.local import Row

MIB = 1024 * 1024
REQUESTS = 5000
LOADED = 10
"""Models that are in memory beside those that are asked for: the scheduler has to look at all."""
BOUNDS = Bounds(
    memory=4096 * MIB,
    reserve=0,
    keep_alive=600.0,
    load_timeout=60.0,
    hang_timeout=60.0,
    queue=64,
    queue_timeout=60.0,
)
BUDGET = 50.0
"""Microseconds for one request."""


def untold(name: str, fields: Mapping[str, object]) -> None:
    """The event log is measured elsewhere."""


async def microseconds(engines: Supervisor, cards: Sequence[ModelCard]) -> float:
    """Of the processor's time, for one request: a lease and a turn, taken and given back, of each model in turn."""
    callers = [Caller(user_id=number, name=f"caller-{number}") for number in range(8)]
    start = time.process_time()
    for number in range(REQUESTS):
        async with engines.lease(cards[number % len(cards)], callers[number % 8]) as lease, lease.turn():
            pass
    return (time.process_time() - start) / REQUESTS * 1e6


async def measured(rounds: int) -> tuple[float, float]:
    """Medians for one model asked again and again, and for two asked by turns."""
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    placement = LocalPlacement(child_environment(os.environ))
    folders = Folders(run=folder / "run", logs=folder / "logs", seen=folder / "memory.json")
    cards = [fake_card(f"fake:model-{number}?size=10MB", created=1) for number in range(LOADED)]
    one, two = cards[:1], cards[:2]
    async with Supervisor({"fake": FakeRecipe(4)}, placement, BOUNDS, folders, untold) as engines:
        async with AsyncExitStack() as leases:
            for card in cards:
                await leases.enter_async_context(engines.lease(card, Caller(user_id=None, name="bench")))
        figures = [(await microseconds(engines, one), await microseconds(engines, two)) for _ in range(rounds)]
    return statistics.median(same for same, _ in figures), statistics.median(both for _, both in figures)


def scheduling_rows(rounds: int) -> list[Row]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        same, both = runner.run(measured(rounds))
    return [
        Row("scheduling a request, 10 models loaded", same, BUDGET, "µs", f"≤ {BUDGET:g} µs"),
        Row("switching between two that both fit", both, same, "µs", "costs nothing"),
    ]
