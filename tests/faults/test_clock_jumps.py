"""The time of day may jump: by a correction, by a daylight rule of somebody's making, by a battery that ran out."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import time
from pathlib import Path

import pytest

from atrium.decisions.choose_endpoint import Balancing
from atrium.relay.directory import Directory
from atrium.relay.health import Checker
from atrium.relay.pool import PoolBounds
from atrium.settings.endpoints import read_endpoints
from atrium.settings.tree import EndpointSettings
from tests.engines.supervised import ANNA, supervised
from tests.engines.test_supervisor import fake, loaded, use, waiting
from tests.gallery.test_adopting import PATIENCE, shelved
from tests.gallery.tiny import write_llama

YEAR = 365 * 86_400.0


def jumping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward and back by years, at every look."""
    real, jumps = time.time, itertools.cycle((YEAR, -YEAR, 0.0, 10 * YEAR))
    monkeypatch.setattr(time, "time", lambda: real() + next(jumps))


async def test_no_model_is_unloaded_and_nobody_who_waits_is_sent_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jumping(monkeypatch)
    async with supervised(tmp_path, keep_alive=30.0, queue_timeout=30.0, look=0.01) as (engines, told):
        one = fake("one", "size=10MB&slots=1&load=300ms")
        first = await waiting(engines, one)
        await first
        async with engines.lease(one, ANNA):
            assert loaded(engines) == {"one"}
        await use(engines, one)
        assert told.count("model.unloaded") == 0
        assert told.count("runner.started") == 1
        (status,) = engines.running()
        assert status.expires_in is not None
        assert 0 < status.expires_in <= 30


async def test_endpoints_are_looked_at_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(time.time(), -3600.0)
    monkeypatch.setattr(time, "time", lambda: next(clock))
    directory = Directory(PoolBounds(1.0, 1.0, 4, 1024), {}, Balancing())
    gone = EndpointSettings(
        url="http://127.0.0.1:9", name="gone", type="openai", check_interval=0.1, check_timeout=0.05
    )
    (spec,) = read_endpoints((gone,))
    endpoint = directory.add(spec)
    async with Checker(directory, 60.0), asyncio.timeout(PATIENCE):
        while endpoint.checked.failures < 2:  # noqa: ASYNC110 - a number, which has no event
            await asyncio.sleep(0)


async def test_a_model_file_of_the_future_is_served_today(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    shutil.copyfile(write_llama(tmp_path / "tiny.gguf"), models / "late.gguf")
    os.utime(models / "late.gguf", (time.time() + YEAR, time.time() + YEAR))
    async with shelved(tmp_path / "data", models) as (library, shelves, _), asyncio.timeout(PATIENCE):
        await shelves.settled()
        assert "late" in library.snapshot().cards
