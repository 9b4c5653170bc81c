"""How long a client connection is kept, and what it may hold."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from uvicorn.config import Config
from uvicorn.server import ServerState

from atrium.http.protocol import Door


class Line:
    """A transport whose other side reads as much as the test says."""

    def __init__(self) -> None:
        self.unread = 0
        self.ended = ""

    def get_write_buffer_size(self) -> int:
        return self.unread

    def is_closing(self) -> bool:
        return bool(self.ended)

    def abort(self) -> None:
        self.ended = "aborted"

    def close(self) -> None:
        self.ended = "closed"


async def nothing(_scope: object, _receive: object, _send: object) -> None:
    raise AssertionError("nothing is asked here")


@pytest.fixture
async def door() -> Door:
    config = Config(nothing, log_config=None, interface="asgi3")
    config.load()
    door = Door(config, ServerState(), {}, asyncio.get_running_loop())
    door.transport = cast("asyncio.Transport", Line())
    return door


async def test_who_reads_slowly_gets_it_all_and_who_reads_nothing_is_let_go(door: Door) -> None:
    line = cast("Line", door.transport)
    for unread in (3000, 2000, 1000):
        line.unread = unread
        door.close_idle()
        assert not line.ended
    door.close_idle()
    assert line.ended == "aborted"


async def test_who_has_read_everything_is_idle(door: Door) -> None:
    line = cast("Line", door.transport)
    line.unread = 1000
    door.close_idle()
    line.unread = 0
    door.close_idle()
    assert line.ended == "closed"


async def test_empty_lines_do_not_keep_a_connection(door: Door) -> None:
    door.idle_since = 7.0
    door.data_received(b"\r\n")
    assert door.idle_since == 7.0
    door.data_received(b"POST")
    assert door.idle_since == 0.0
    door._unwatch_head()  # pyright: ignore[reportPrivateUsage] - there is no connection that could be lost
