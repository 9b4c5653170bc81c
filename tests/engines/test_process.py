"""The states of a runner, and lives that go wrong."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from atrium.core.endpoints import RunnerState
from atrium.engines.logs import RunnerLog
from atrium.engines.placement.local import LocalPlacement, child_environment
from atrium.engines.process import TRANSITIONS, Change, Launch, RunnerProcess
from atrium.engines.recipes.fake import FakeRecipe
from atrium.engines.recipes.recipe import Plan
from tests.engines.test_supervisor import fake

SOON = 0.2


def process_of(folder: Path, plan: Plan, *, socket: str = "s.sock", load_timeout: float = 60.0) -> RunnerProcess:
    launch = Launch("one", plan, folder / socket, RunnerLog(folder / "logs", "one"), load_timeout, hang_timeout=60.0)
    return RunnerProcess(launch, LocalPlacement(child_environment(os.environ)))


def plan_of(options: str = "") -> Plan:
    return FakeRecipe(slots=1).plan(fake("one", options), 0)


def never() -> None:
    pytest.fail("it was never ready")


def test_every_state_says_what_may_happen_in_it() -> None:
    assert TRANSITIONS.keys() == set(RunnerState)
    assert all(Change.STOP in changes for changes in TRANSITIONS.values()), "a stop may come at any time"
    assert [state for state, changes in TRANSITIONS.items() if Change.ANSWERED in changes] == [RunnerState.STARTING]


async def test_a_life_has_a_beginning_and_an_end(tmp_path: Path) -> None:
    process = process_of(tmp_path, plan_of())
    seen: list[RunnerState] = []

    def ready() -> None:
        seen.append(process.state)
        assert process.pid
        process.stop()

    ended = await process.live(ready)
    assert (ended.asked, ended.loaded, ended.reason) == (True, True, "")
    assert (seen, process.state, process.pid) == ([RunnerState.READY], RunnerState.STOPPED, None)
    assert not process.launch.socket.exists()


async def test_a_life_that_is_stopped_before_it_begins_starts_nothing(tmp_path: Path) -> None:
    process = process_of(tmp_path, plan_of())
    process.stop()
    ended = await process.live(never)
    assert ended.asked
    assert not (tmp_path / "logs").exists()


async def test_a_runner_that_is_not_ready_in_time_is_killed(tmp_path: Path) -> None:
    before = psutil.Process().children()
    process = process_of(tmp_path, plan_of("load=1h"), load_timeout=SOON)
    ended = await process.live(never)
    assert "was not ready within 0.2 s" in ended.reason
    assert process.state is RunnerState.DEAD
    assert set(psutil.Process().children()) <= set(before)


async def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    process = process_of(tmp_path, Plan(1, 1, 0, 0, "", command=(str(tmp_path / "nothing"),)))
    ended = await process.live(never)
    assert "could not be started" in ended.reason


async def test_a_socket_path_that_the_kernel_would_refuse_is_refused(tmp_path: Path) -> None:
    process = process_of(tmp_path, plan_of(), socket="x" * 108)
    ended = await process.live(never)
    assert "longer than 107 bytes" in ended.reason


async def test_a_child_sees_none_of_our_settings_and_secrets(tmp_path: Path) -> None:
    seen = child_environment({"ATRIUM_PEPPER": "secret", "ATRIUM_DATABASE_URL": "secret", "PATH": "/bin"})
    assert seen == {"PATH": "/bin"}
