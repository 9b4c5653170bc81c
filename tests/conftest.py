"""What every test may use."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Generator

import pytest
from blockbuster import blockbuster_ctx

from tests.running import RunningServer, first_start

DEFAULTS = {"smollm2-135m-instruct", "all-minilm-l6-v2"}
INSTALL_PATIENCE = 300.0
MAY_BLOCK = {
    "atrium/storage/database.py": {"open_database", "migrate", "check_version", "scripts"},
    "atrium/gallery/library.py": {"open"},
    "asyncpg/connect_utils.py": {"_parse_connect_arguments"},
}
"""What reads its files before anybody is served; and the driver's look for a password file, once per connection."""

# Every server, runner and command that a test starts would otherwise compile the whole program for itself.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Tests run on the loop that the server runs on."""
    return ("asyncio", {"use_uvloop": True})


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningServer]:
    """The program as a user first meets it: a first start on an empty folder that brings its own models."""
    with first_start(tmp_path_factory.mktemp("first-start") / "data") as started, started.client() as client:
        deadline = time.monotonic() + INSTALL_PATIENCE
        while {m["id"] for m in client.get("/v1/models").json()["data"]} != DEFAULTS:
            assert time.monotonic() < deadline, "the default models did not come"
        yield started


@pytest.fixture(autouse=True)
def nothing_blocks_the_loop() -> Generator[None]:
    """A call of ours that blocks a running event loop fails its test."""
    with blockbuster_ctx(scanned_modules=["atrium"]) as watch:
        for function in watch.functions.values():
            for file, names in MAY_BLOCK.items():
                function.can_block_in(file, names)
        yield


@pytest.fixture(autouse=True)
def the_network_is_far_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test asks of the network goes through pip, in a process of its own, or not at all."""
    look_up = socket.getaddrinfo

    def local(host: str | None, *rest: object, **more: object) -> object:
        assert host in (None, "", "localhost", "127.0.0.1", "::1"), f"a test asked the network for {host}"
        return look_up(host, *rest, **more)  # pyright: ignore[reportArgumentType] - handed on as it came

    monkeypatch.setattr(socket, "getaddrinfo", local)
