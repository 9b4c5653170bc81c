"""The line for slots, without any runner."""

from __future__ import annotations

import asyncio

import pytest

from atrium.core.errors import EngineFailed, QueueFull
from atrium.engines.turns import TurnLine


def line_of(slots: int, *, longest: int = 10) -> TurnLine:
    return TurnLine(slots, longest=longest, patience=60.0)


async def queued(line: TurnLine, who: str) -> asyncio.Task[float]:
    before = line.waiting
    task = asyncio.create_task(line.take(who))
    while line.waiting == before:  # noqa: ASYNC110 - a number, which has no event
        await asyncio.sleep(0)
    return task


async def test_a_caller_of_many_does_not_keep_out_a_caller_of_one() -> None:
    line = line_of(1)
    await line.take("many")
    tasks = {name: await queued(line, name.rstrip("0123456789")) for name in ("many1", "many2", "one", "few1", "few2")}
    order: list[str] = []
    for _ in tasks:
        line.give_back()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        order += [name for name, task in tasks.items() if task.done() and name not in order]
    assert order == ["many1", "one", "few1", "many2", "few2"]


async def test_a_newcomer_does_not_overtake_those_who_wait() -> None:
    line = line_of(1)
    await line.take("a")
    first = await queued(line, "b")
    line.give_back()
    second = asyncio.create_task(line.take("c"))
    await first
    assert not second.done()
    line.give_back()
    await second
    assert (line.busy, line.waiting) == (1, 0)


async def test_a_turn_given_to_one_who_just_left_goes_to_the_next() -> None:
    line = line_of(1)
    await line.take("a")
    leaver, stayer = await queued(line, "b"), await queued(line, "c")
    line.give_back()
    leaver.cancel()
    await stayer
    assert leaver.cancelled() or leaver.done()
    assert (line.busy, line.waiting) == (1, 0)


async def test_the_line_has_a_bound() -> None:
    line = line_of(1, longest=1)
    await line.take("a")
    waiting = await queued(line, "b")
    with pytest.raises(QueueFull):
        await line.take("c")
    line.give_back()
    await waiting


async def test_a_closed_line_tells_those_who_wait_and_those_who_come() -> None:
    line = line_of(1)
    await line.take("a")
    waiting = await queued(line, "b")
    line.close(lambda: EngineFailed("it is gone"))
    with pytest.raises(EngineFailed, match="gone"):
        await waiting
    with pytest.raises(EngineFailed, match="gone"):
        await line.take("c")
    line.give_back()
    assert (line.busy, line.waiting) == (0, 0)


async def test_waiting_for_a_slot_has_an_end() -> None:
    line = TurnLine(1, longest=10, patience=0.01)
    await line.take("a")
    with pytest.raises(QueueFull, match="no slot") as refused:
        await line.take("b")
    assert refused.value.retry_after
    line.give_back()
    assert (line.busy, line.waiting) == (0, 0)


async def test_in_a_full_line_whoever_waits_with_the_most_makes_room() -> None:
    line = line_of(1, longest=3)
    await line.take("a")
    many = [await queued(line, "many") for _ in range(3)]
    one = asyncio.create_task(line.take("one"))
    with pytest.raises(QueueFull, match="others wait too"):
        await many[2]
    assert line.counts() == {"many": 2, "one": 1}
    with pytest.raises(QueueFull, match="3 requests wait"):
        await line.take("one")
    for task in (many[0], one, many[1]):
        line.give_back()
        await task
    assert (line.busy, line.waiting) == (1, 0)
