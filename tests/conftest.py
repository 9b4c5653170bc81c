"""What every test may use."""

from __future__ import annotations

import time
from collections.abc import Generator

import pytest

from tests.running import RunningServer, running

DEFAULTS = {"smollm2-135m-instruct", "all-minilm-l6-v2"}
INSTALL_PATIENCE = 300.0


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Tests run on the loop that the server runs on."""
    return ("asyncio", {"use_uvloop": True})


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningServer]:
    """The program as a user first meets it: a first start on an empty folder that brings its own models."""
    with running(tmp_path_factory.mktemp("first-start") / "data") as started, started.client() as client:
        deadline = time.monotonic() + INSTALL_PATIENCE
        while {m["id"] for m in client.get("/v1/models").json()["data"]} != DEFAULTS:
            assert time.monotonic() < deadline, "the default models did not come"
        yield started
