"""What every engine promises through the supervisor, on the fake and on the real one."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import psutil
import pytest

from atrium.core.endpoints import RunnerState
from atrium.core.errors import EngineFailed, NotEnoughMemory
from atrium.core.models import ModelCard
from atrium.core.people import Caller
from atrium.core.ports import Engines, Lease
from atrium.decisions.fake_address import fake_card
from atrium.relay.deadlines import Deadlines
from atrium.relay.prompt_scores import PromptScorer
from atrium.relay.tokens import text_of
from tests.engines.supervised import ANNA, BERT, MIB, PATIENCE, complete, stream, supervised
from tests.weights import smollm2_card

PROMPT = [1, 9690, 198, 28120, 2, 198]
ORPHANED_FOR = 2.0


@pytest.fixture(params=["fake", "llamacpp"])
def engine(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def card(engine: str) -> ModelCard:
    return smollm2_card() if engine == "llamacpp" else fake_card("fake:quick?pace=5ms", created=1)


@pytest.fixture
def prompt(engine: str) -> list[int]:
    return PROMPT if engine == "llamacpp" else [72, 101, 108, 108, 111]


@pytest.fixture
def broken(engine: str, tmp_path: Path) -> ModelCard:
    """A model that cannot be loaded."""
    if engine == "fake":
        return fake_card("fake:broken?fault=crash-on-load", created=1)
    (tmp_path / "broken.gguf").write_bytes(b"no weights at all")
    return smollm2_card("broken", path=tmp_path / "broken.gguf")


async def until(met: Callable[[], bool]) -> None:
    """Let everything else run until it holds."""
    async with asyncio.timeout(PATIENCE):
        while not met():  # noqa: ASYNC110 - what it waits for is a number, which has no event
            await asyncio.sleep(0)


async def test_a_lease_gives_a_runner_that_answers(tmp_path: Path, card: ModelCard, prompt: list[int]) -> None:
    async with supervised(tmp_path) as (supervisor, told):
        engines: Engines = supervisor
        async with engines.lease(card, ANNA) as lease, lease.turn() as waited:
            held: Lease = lease
            assert waited == 0.0
            assert held.loaded_in > 0
            assert await complete(held.runner.socket, prompt, 5)
            (status,) = engines.running()
            assert (status.state, status.busy, status.pid) == (RunnerState.READY, 1, held.runner.pid)
            await until(lambda: engines.running()[0].memory_used > 0)
        assert [name for name, _ in told.events] == ["runner.started", "runner.ready"]
    assert not list((tmp_path / "run").iterdir())
    assert not psutil.pid_exists(held.runner.pid)


async def test_equal_prompts_and_seeds_give_equal_text(tmp_path: Path, card: ModelCard, prompt: list[int]) -> None:
    async with supervised(tmp_path) as (engines, _), engines.lease(card, ANNA) as lease:
        first, again = [
            await complete(lease.runner.socket, prompt, 12, temperature=1, seed=7, cache_prompt=False) for _ in "12"
        ]
        assert first == again


async def test_a_prompts_tokens_have_the_scores_that_generating_them_told(
    tmp_path: Path, card: ModelCard, prompt: list[int]
) -> None:
    async with supervised(tmp_path) as (engines, _), engines.lease(card, ANNA) as lease:
        socket = lease.runner.socket
        async with aclosing(stream(socket, prompt, 6, n_probs=3, return_tokens=True)) as events:
            said = [event async for event in events if not event["stop"]]
        told = [(event["tokens"][-1], event["completion_probabilities"][-1]["logprob"]) for event in said]
        ids = (*prompt, *(token for token, _ in told))
        text = await text_of(ids, lease.runner, Deadlines())
        scores = await PromptScorer(lease.runner, Deadlines(), ids, 3)(text, range(len(ids)))
        assert len(scores) == len(ids) - 1
        chances = [score.chosen.logprob for score in scores[-len(told) :]]
        assert chances == pytest.approx([chance for _, chance in told], abs=1e-2)
        assert all(len(score.others) == 3 for score in scores)
        assert text.endswith("".join(score.chosen.token for score in scores))


async def test_twenty_askers_cause_one_load(tmp_path: Path, card: ModelCard) -> None:
    async def ask() -> int:
        async with engines.lease(card, ANNA) as lease:
            return lease.runner.pid

    async with supervised(tmp_path) as (engines, told):
        pids = await asyncio.gather(*(ask() for _ in range(20)))
        assert len(set(pids)) == 1
        assert told.count("runner.started") == 1


async def test_turns_go_round_between_callers(tmp_path: Path, card: ModelCard) -> None:
    order: list[str] = []

    async def wait_for_turn(caller: Caller, name: str) -> None:
        async with engines.lease(card, caller) as lease, lease.turn():
            order.append(name)

    async with supervised(tmp_path, slots=1) as (engines, _):
        async with engines.lease(card, ANNA) as lease, lease.turn():
            waiting: list[asyncio.Task[None]] = []
            for caller, name in [(ANNA, "a1"), (ANNA, "a2"), (ANNA, "a3"), (BERT, "b1")]:
                waiting.append(asyncio.create_task(wait_for_turn(caller, name)))
                await until(lambda: engines.running()[0].waiting == len(waiting))
        await asyncio.gather(*waiting)
    assert order == ["a1", "b1", "a2", "a3"]


async def test_never_more_answers_in_flight_than_slots(tmp_path: Path, card: ModelCard, prompt: list[int]) -> None:
    busy: list[int] = []

    async def answer() -> None:
        async with engines.lease(card, ANNA) as lease, lease.turn():
            busy.append(engines.running()[0].busy)
            assert await complete(lease.runner.socket, prompt, 3)

    async with supervised(tmp_path, slots=2) as (engines, _):
        await asyncio.gather(*(answer() for _ in range(9)))
        assert max(busy) == 2
        assert engines.running()[0].busy == 0


async def test_a_caller_who_leaves_the_line_leaves_nothing(tmp_path: Path, card: ModelCard) -> None:
    async def wait_for_turn() -> None:
        async with lease.turn():
            pytest.fail("it had no turn")

    async with supervised(tmp_path, slots=1) as (engines, _), engines.lease(card, ANNA) as lease:
        async with lease.turn():
            waiting = asyncio.create_task(wait_for_turn())
            await until(lambda: engines.running()[0].waiting == 1)
            waiting.cancel()
            await asyncio.wait({waiting})
            assert engines.running()[0].waiting == 0
        assert engines.running()[0].busy == 0


async def test_a_load_that_nobody_waits_for_is_given_up(tmp_path: Path, card: ModelCard) -> None:
    async def ask() -> None:
        async with engines.lease(card, ANNA):
            pytest.fail("it left before")

    async with supervised(tmp_path) as (engines, told):
        asking = asyncio.create_task(ask())
        await until(lambda: any(status.pid for status in engines.running()))
        asking.cancel()
        await asyncio.wait({asking})
        ended = await told.heard("runner.exited")
        assert ended["asked"]
        assert engines.running() == ()


async def test_a_killed_runner_is_replaced(tmp_path: Path, card: ModelCard, prompt: list[int]) -> None:
    async with supervised(tmp_path) as (engines, told):
        async with engines.lease(card, ANNA) as lease:
            first = lease.runner.pid
            with pytest.raises((OSError, EOFError)):
                async with aclosing(stream(lease.runner.socket, prompt, 400)) as events:
                    async for _ in events:
                        os.kill(first, signal.SIGKILL)
        ended = await told.heard("runner.exited")
        assert "SIGKILL" in str(ended["reason"])
        async with engines.lease(card, ANNA) as lease:
            assert lease.runner.pid != first
            assert await complete(lease.runner.socket, prompt, 3)


async def test_a_runner_found_broken_is_not_used_again(tmp_path: Path, card: ModelCard) -> None:
    async with supervised(tmp_path) as (engines, told):
        async with engines.lease(card, ANNA) as lease:
            first = lease.runner.pid
            lease.failed("talked nonsense")
            with pytest.raises(EngineFailed, match="nonsense"):
                await lease.turn().__aenter__()
        async with engines.lease(card, ANNA) as lease:
            assert lease.runner.pid != first
        assert told.all("runner.exited")[0]["reason"] == "talked nonsense"


async def test_with_no_keep_alive_a_model_leaves_when_its_last_lease_ends(tmp_path: Path, card: ModelCard) -> None:
    async with supervised(tmp_path) as (engines, told):
        async with AsyncExitStack() as leases:
            for _ in range(2):
                await leases.enter_async_context(engines.lease(card, ANNA, keep_alive=0))
            assert told.count("model.unloaded") == 0
        assert (await told.heard("runner.exited"))["asked"]
        assert engines.running() == ()


async def test_what_cannot_fit_is_refused_with_the_numbers(tmp_path: Path, card: ModelCard) -> None:
    async with supervised(tmp_path, memory=10 * MIB) as (engines, told):
        with pytest.raises(NotEnoughMemory, match=rf"`{card.name}` needs about \d+ MiB of memory, and 10 MiB"):
            async with engines.lease(card, ANNA):
                pytest.fail("it does not fit")
        assert told.count("runner.started") == 0


async def test_a_failed_load_says_why(tmp_path: Path, broken: ModelCard) -> None:
    async with supervised(tmp_path) as (engines, told):
        with pytest.raises(EngineFailed, match=r"crash while loading|invalid magic") as failed:
            async with engines.lease(broken, ANNA):
                pytest.fail("it cannot be loaded")
        assert str(tmp_path) not in failed.value.sentence
        assert told.count("runner.started") == 3
        with pytest.raises(EngineFailed) as again:
            async with engines.lease(broken, ANNA):
                pytest.fail("it is too early to try again")
        assert again.value.retry_after
        assert told.count("runner.started") == 3
    assert list((tmp_path / "logs").iterdir())


def test_no_runner_outlives_a_killed_parent(tmp_path: Path, engine: str) -> None:
    command = (sys.executable, "-m", "tests.engines.gateway", engine, str(tmp_path))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as gateway:
        assert gateway.stdout is not None
        runner = psutil.Process(int(gateway.stdout.readline()))
        gateway.kill()
    _, alive = psutil.wait_procs([runner], timeout=ORPHANED_FOR)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


async def test_a_runner_in_doubt_lets_the_answers_of_others_end(tmp_path: Path, card: ModelCard) -> None:
    async with supervised(tmp_path) as (engines, told), engines.lease(card, BERT) as other:
        async with engines.lease(card, ANNA) as lease:
            lease.doubted("talked nonsense")
            lease.doubted("talked nonsense again")
        async with other.turn():
            assert told.count("runner.exited") == 0
    assert told.all("runner.exited")[0]["reason"] == "talked nonsense"
