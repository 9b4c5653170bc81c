"""Who is loaded, who waits and who leaves: on fakes, which load in no time and claim any size."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from atrium.core.endpoints import RunnerState
from atrium.core.errors import EngineMissing, ModelLoading, QueueFull, ShuttingDown
from atrium.core.models import ModelCard
from atrium.decisions.fake_address import fake_card
from atrium.engines.preload import preload
from atrium.engines.supervisor import Supervisor
from tests.engines.supervised import ANNA, BERT, MIB, PATIENCE, complete, supervised

SOON = 0.05
SMALL_HOUSE = 100 * MIB


def fake(name: str, options: str = "size=60MB") -> ModelCard:
    return fake_card(f"fake:{name}?{options}", created=1)


def loaded(engines: Supervisor) -> set[str]:
    return {status.model for status in engines.running() if status.state is RunnerState.READY}


async def use(engines: Supervisor, card: ModelCard, keep_alive: float | None = None) -> None:
    async with engines.lease(card, ANNA, keep_alive=keep_alive) as lease, lease.turn():
        pass


def line(engines: Supervisor, card: ModelCard) -> int:
    return sum(status.waiting for status in engines.running() if status.model == card.name)


async def waiting(engines: Supervisor, card: ModelCard) -> asyncio.Task[None]:
    """Somebody who stands in line for a model."""
    before = line(engines, card)
    task = asyncio.create_task(use(engines, card))
    async with asyncio.timeout(PATIENCE):
        while line(engines, card) == before:  # noqa: ASYNC110 - a number, which has no event
            await asyncio.sleep(0)
    return task


async def test_an_idle_model_makes_room_for_a_wanted_one(tmp_path: Path) -> None:
    async with supervised(tmp_path, memory=SMALL_HOUSE) as (engines, told):
        await use(engines, fake("old"))
        await use(engines, fake("new"))
        assert loaded(engines) == {"new"}
        assert told.all("model.unloaded")[0] == {"model": "old", "why": "memory", "wanted": "new"}


async def test_a_model_in_use_is_waited_for(tmp_path: Path) -> None:
    async with supervised(tmp_path, memory=SMALL_HOUSE) as (engines, told):
        async with engines.lease(fake("old"), ANNA):
            wanted = await waiting(engines, fake("new"))
            assert told.count("model.unloaded") == 0
        await wanted
        assert loaded(engines) == {"new"}


async def test_a_model_in_use_all_day_lets_another_in(tmp_path: Path) -> None:
    async with supervised(tmp_path, memory=SMALL_HOUSE) as (engines, _):
        async with AsyncExitStack() as first:
            await first.enter_async_context(engines.lease(fake("old"), ANNA))
            wanted = await waiting(engines, fake("new"))
            later = await waiting(engines, fake("old"))
        await asyncio.gather(wanted, later)
        assert loaded(engines) == {"old"}


async def test_when_the_wanting_caller_leaves_the_drained_model_serves_again(tmp_path: Path) -> None:
    async with supervised(tmp_path, memory=SMALL_HOUSE) as (engines, told), engines.lease(fake("old"), ANNA):
        wanted = await waiting(engines, fake("new"))
        later = await waiting(engines, fake("old"))
        wanted.cancel()
        await later
        assert told.count("runner.started") == 1


async def test_a_full_queue_refuses_with_a_time_to_come_back(tmp_path: Path) -> None:
    async with supervised(tmp_path, memory=SMALL_HOUSE, queue=2) as (engines, _):
        async with engines.lease(fake("old"), ANNA):
            queued = [await waiting(engines, fake("new")) for _ in "12"]
            with pytest.raises(QueueFull) as refused:
                await use(engines, fake("new"))
            assert refused.value.retry_after
        await asyncio.gather(*queued)


async def test_a_caller_who_fills_the_queue_keeps_nobody_out(tmp_path: Path) -> None:
    async with supervised(tmp_path, memory=SMALL_HOUSE, queue=2) as (engines, _):
        async with engines.lease(fake("old"), ANNA):
            first, second = [await waiting(engines, fake("new")) for _ in "12"]

            async def other() -> None:
                async with engines.lease(fake("new"), BERT):
                    pass

            late = asyncio.create_task(other())
            with pytest.raises(QueueFull, match="others wait too"):
                await second
        await asyncio.gather(first, late)


async def test_waiting_for_a_model_has_an_end(tmp_path: Path) -> None:
    async with supervised(tmp_path, memory=SMALL_HOUSE, queue_timeout=SOON) as (engines, told):
        with pytest.raises(ModelLoading) as refused:
            await use(engines, fake("slow", "load=1h"))
        assert refused.value.retry_after
        assert (await told.heard("runner.exited"))["asked"]


async def test_an_unused_model_leaves_when_its_time_is_over(tmp_path: Path) -> None:
    async with supervised(tmp_path, keep_alive=SOON) as (engines, told):
        await use(engines, fake("one"))
        assert (await told.heard("model.unloaded"))["why"] == "keep-alive"
        assert (await told.heard("runner.exited"))["asked"]


async def test_a_negative_keep_alive_keeps_a_model_for_ever(tmp_path: Path) -> None:
    async with supervised(tmp_path, keep_alive=SOON) as (engines, _):
        await use(engines, fake("one"), keep_alive=-1)
        assert engines.running()[0].expires_in is None
        await use(engines, fake("one"), keep_alive=60)
        assert engines.running()[0].expires_in == pytest.approx(60, abs=5)


async def test_a_request_without_a_keep_alive_leaves_what_an_earlier_one_asked_for(tmp_path: Path) -> None:
    async with supervised(tmp_path, keep_alive=SOON) as (engines, told):
        await use(engines, fake("one"), keep_alive=-1)
        await use(engines, fake("one"))
        assert engines.running()[0].expires_in is None
        assert await engines.unload("one")
        await use(engines, fake("one"))
        assert (await told.heard("model.unloaded", 2))["why"] == "keep-alive"


async def test_a_model_may_have_a_keep_alive_and_slots_of_its_own(tmp_path: Path) -> None:
    card = replace(fake("one"), keep_alive=60.0, slots=7)
    async with supervised(tmp_path, keep_alive=SOON) as (engines, _):
        async with engines.lease(card, ANNA) as lease:
            assert lease.runner.slots == 7
            assert engines.running()[0].expires_in == 60
        assert engines.running()[0].expires_in == pytest.approx(60, abs=5)


async def test_an_unload_waits_for_the_leases(tmp_path: Path) -> None:
    async with supervised(tmp_path) as (engines, told):
        async with engines.lease(fake("one"), ANNA) as lease:
            unloading = asyncio.create_task(engines.unload("one"))
            again = await waiting(engines, fake("one"))
            assert told.count("model.unloaded") == 0
            async with lease.turn():
                pass
        assert await unloading
        await again
        assert told.count("runner.started") == 2
        assert await engines.unload("one")
        assert not await engines.unload("one")
        assert engines.running() == ()


async def test_a_model_installed_anew_gets_a_new_runner(tmp_path: Path) -> None:
    async with supervised(tmp_path) as (engines, told):
        await use(engines, fake("one", "context=2048"))
        async with engines.lease(fake("one", "context=4096"), ANNA) as lease:
            assert lease.runner.context == 4096
        assert told.count("runner.exited") == 1


async def test_a_stop_lets_running_answers_end(tmp_path: Path) -> None:
    async with supervised(tmp_path) as (engines, told):
        async with engines.lease(fake("one"), ANNA):
            stopping = asyncio.create_task(engines.stop(grace=PATIENCE))
            await asyncio.sleep(0)
            with pytest.raises(ShuttingDown):
                await use(engines, fake("one"))
            assert told.count("model.unloaded") == 0
        await stopping
        assert told.all("runner.exited")[0]["asked"]


async def test_a_stop_does_not_wait_longer_than_it_was_told(tmp_path: Path) -> None:
    async with supervised(tmp_path) as (engines, told), engines.lease(fake("one"), ANNA) as lease:
        await engines.stop(grace=SOON)
        assert told.count("runner.exited") == 1
        with pytest.raises(ShuttingDown):
            await lease.turn().__aenter__()


async def test_who_waits_when_the_server_stops_is_told(tmp_path: Path) -> None:
    async with supervised(tmp_path) as (engines, _):
        asking = await waiting(engines, fake("slow", "load=1h"))
        await engines.stop(grace=0.0)
        with pytest.raises(ShuttingDown):
            await asking


async def test_models_are_preloaded_in_order_and_a_broken_one_is_passed_over(tmp_path: Path) -> None:
    async with supervised(tmp_path) as (engines, told):
        cards = {card.name: card for card in (fake("broken", "fault=crash-on-load"), fake("one"), fake("two"))}
        await preload(["missing", *cards], cards, engines, told)
        assert loaded(engines) == {"one", "two"}
        assert [one["model"] for one in told.all("model.preload_failed")] == ["missing", "broken"]


async def test_an_unknown_engine_is_named(tmp_path: Path) -> None:
    card = replace(fake("one"), engine="abacus")
    async with supervised(tmp_path) as (engines, _):
        with pytest.raises(EngineMissing, match="abacus"):
            await use(engines, card)
        assert engines.running() == ()


async def test_a_failing_runner_is_started_again_with_growing_pauses(tmp_path: Path) -> None:
    async with supervised(tmp_path) as (engines, told):
        for _ in range(3):
            async with engines.lease(fake("one"), ANNA) as lease:
                lease.failed("was broken")
        await told.heard("runner.exited", 3)
        assert engines.running()[0].state is RunnerState.DEAD
        assert engines.running()[0].last_error == "was broken"


@pytest.mark.parametrize("steps", [*range(12), 20, 40, 80])
async def test_a_caller_may_leave_at_any_step(tmp_path: Path, steps: int) -> None:
    async with supervised(tmp_path, slots=1) as (engines, _):
        task = asyncio.create_task(use(engines, fake("one")))
        other = asyncio.create_task(use(engines, fake("one")))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        await other
        async with engines.lease(fake("one"), BERT) as lease, lease.turn():
            assert engines.running()[0].busy == 1
        # It ends only when every lease was given back.
        assert await engines.unload("one")


@pytest.mark.parametrize("steps", range(12))
async def test_a_caller_may_leave_a_ready_model_at_any_step(tmp_path: Path, steps: int) -> None:
    async with supervised(tmp_path, slots=1) as (engines, _):
        async with engines.lease(fake("one"), BERT) as lease, lease.turn():
            task = asyncio.create_task(use(engines, fake("one")))
            for _ in range(steps):
                await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        status = engines.running()[0]
        assert (status.busy, status.waiting) == (0, 0)
        assert await engines.unload("one")


async def test_what_a_runner_died_of_is_told_rather_than_what_its_user_saw(tmp_path: Path) -> None:
    async with supervised(tmp_path) as (engines, told):
        async with engines.lease(fake("one", "fault=crash@2"), ANNA) as lease:
            with pytest.raises((OSError, EOFError)):
                await complete(lease.runner.socket, [1], 9)
            lease.failed("broke off")
        assert "told to crash after 2 tokens" in str((await told.heard("runner.exited"))["reason"])
