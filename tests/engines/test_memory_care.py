"""Memory is measured, remembered, kept within bounds and given back: on fakes that really take it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import psutil
import pytest

from atrium.core.endpoints import RunnerState, RunnerStatus
from atrium.core.errors import EngineFailed, NotEnoughMemory
from atrium.engines.supervisor import Supervisor
from tests.engines.supervised import ANNA, MIB, PATIENCE, Told, complete, stream, supervised
from tests.engines.test_supervisor import fake, loaded, use, waiting

LOOK = 0.2
PLENTY = 64 * 1024 * MIB


def status(engines: Supervisor, name: str) -> RunnerStatus:
    (found,) = (one for one in engines.running() if one.model == name)
    return found


async def until(met: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not met():  # noqa: ASYNC110 - what it waits for is a number, which has no event
            await asyncio.sleep(0)


async def test_an_estimate_is_corrected_by_what_was_seen_also_after_a_restart(tmp_path: Path) -> None:
    liar = fake("liar", "size=10MB&takes=60MB&slots=1")
    for expected in (10 * MIB, 70 * MIB):
        async with supervised(tmp_path, look=LOOK) as (engines, _), engines.lease(liar, ANNA):
            assert (status(engines, "liar").memory_estimate >= 70 * MIB) == (expected == 70 * MIB)
            await until((tmp_path / "memory.json").exists)


async def test_a_book_of_what_was_seen_that_cannot_be_read_means_nothing_was_seen(tmp_path: Path) -> None:
    (tmp_path / "memory.json").write_bytes(b'{"fp": [1, "much"]')
    async with supervised(tmp_path) as (engines, _), engines.lease(fake("one"), ANNA):
        await until(lambda: status(engines, "one").memory_used > 0)
    assert b"fp_" in (tmp_path / "memory.json").read_bytes()


async def test_a_model_that_takes_too_much_ends_its_answer_and_comes_back_smaller(tmp_path: Path) -> None:
    liar = fake("liar", "size=20MB&takes=40MB&slots=4&pace=5ms")
    async with supervised(tmp_path, memory=140 * MIB, look=LOOK) as (engines, told):
        async with engines.lease(liar, ANNA) as lease:
            async with aclosing(stream(lease.runner.socket, [1], 200)) as events:
                count = len([event async for event in events])
            assert (await told.heard("model.overrun"))["model"] == "liar"
            assert count == 201
            later = await waiting(engines, liar)
        await later
        async with engines.lease(liar, ANNA) as lease:
            assert lease.runner.slots == 2
        assert [event["slots"] for event in told.all("runner.started")] == [4, 2]


async def test_an_idle_model_leaves_before_one_in_use_is_drained(tmp_path: Path) -> None:
    async with supervised(tmp_path, memory=160 * MIB, look=LOOK) as (engines, told):
        await use(engines, fake("idle", "size=20MB&takes=40MB&slots=1"))
        async with engines.lease(fake("busy", "size=20MB&takes=90MB&slots=1"), ANNA):
            assert (await told.heard("model.overrun"))["model"] == "idle"
            await told.heard("runner.exited")
            await until(lambda: loaded(engines) == {"busy"})


async def test_memory_that_another_program_takes_is_given_way_to(tmp_path: Path) -> None:
    left = PLENTY
    async with supervised(tmp_path, left=lambda: left, look=LOOK) as (engines, told):
        await use(engines, fake("one"))
        left = 0
        assert (await told.heard("model.unloaded"))["why"] == "too much memory is in use"
        await told.heard("runner.exited")
        with pytest.raises(NotEnoughMemory, match="other programs leave") as refused:
            await use(engines, fake("two"))
        assert refused.value.retry_after
        left = PLENTY
        await asyncio.wait_for(load(engines), PATIENCE)


async def load(engines: Supervisor) -> None:
    """As a caller who comes again until it is served."""
    while True:
        try:
            return await use(engines, fake("two"))
        except NotEnoughMemory:
            await asyncio.sleep(0)


async def test_before_the_machine_has_no_memory_left_the_worst_runner_is_ended(tmp_path: Path) -> None:
    left = PLENTY
    good, bad = fake("good", "size=20MB"), fake("bad", "size=20MB&takes=30MB&slots=1")
    async with supervised(tmp_path, left=lambda: left, look=LOOK) as (engines, told), AsyncExitStack() as leases:
        await leases.enter_async_context(engines.lease(good, ANNA))
        held = await leases.enter_async_context(engines.lease(bad, ANNA))
        left = 10 * MIB
        ended = await told.heard("runner.exited")
        left = PLENTY
        assert (ended["model"], ended["reason"]) == ("bad", "was ended since the machine ran out of memory")
        with pytest.raises(EngineFailed, match="out of memory"):
            await held.turn().__aenter__()
        assert loaded(engines) == {"good"}


async def test_a_runner_that_hangs_without_dying_is_replaced(tmp_path: Path) -> None:
    async with supervised(tmp_path, hang_timeout=0.4) as (engines, told):
        async with engines.lease(fake("one"), ANNA) as lease:
            os.kill(lease.runner.pid, signal.SIGSTOP)
            assert "hung: it did not answer for 0.4 s" in str((await told.heard("runner.exited"))["reason"])
            assert not psutil.pid_exists(lease.runner.pid)
        async with engines.lease(fake("one"), ANNA) as lease:
            assert await complete(lease.runner.socket, [1], 3)


def not_reaped(told: Told) -> list[int]:
    """Pids of the runners that the kernel still knows, dying ones and dead ones that nobody awaited included."""
    left: list[int] = []
    for event in told.all("runner.ready"):
        pid = event["pid"]
        assert isinstance(pid, int)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 0)
            left.append(pid)
    return left


async def test_ten_models_in_turn_in_a_house_for_two_leave_nothing(tmp_path: Path) -> None:
    cards = [fake(f"model-{number}", "size=60MB&takes=30MB&slots=1") for number in range(10)]
    own = psutil.Process()
    beside: list[int] = []
    async with supervised(tmp_path, memory=130 * MIB, look=LOOK) as (engines, told):
        told.also["runner.started"] = lambda: beside.append(len(not_reaped(told)))
        await use(engines, cards[-1])
        files = own.num_fds()
        for card in cards:
            await use(engines, card)
            assert sum(one.memory_used for one in engines.running()) <= 130 * MIB
        assert beside == [0, *[1] * 10], "the next starts when the evicted one is gone, and only then"
        assert len(loaded(engines)) == len(not_reaped(told)) == 2
        for card in cards:
            await engines.unload(card.name)
        assert not not_reaped(told)
        assert own.num_fds() < files
        assert engines.running() == ()


async def test_a_model_whose_keep_alive_is_over_gives_its_memory_back(tmp_path: Path) -> None:
    async with supervised(tmp_path, look=LOOK) as (engines, told):
        async with engines.lease(fake("one", "takes=50MB&slots=1"), ANNA, keep_alive=0.0) as lease:
            runner = psutil.Process(lease.runner.pid)
            assert runner.memory_info().rss > 50 * MIB
        await told.heard("runner.exited")
        assert not runner.is_running()
        assert engines.running() == ()


async def test_answers_that_make_a_runner_grow_are_noticed(tmp_path: Path) -> None:
    async with supervised(tmp_path, memory=100 * MIB, look=LOOK) as (engines, told):
        async with engines.lease(fake("leak", "size=10MB&grows=30MB&slots=1"), ANNA) as lease:
            for _ in range(4):
                assert await complete(lease.runner.socket, [1], 2)
            assert (await told.heard("model.overrun"))["model"] == "leak"
        await told.heard("runner.exited")
        assert RunnerState.READY not in {one.state for one in engines.running()}
