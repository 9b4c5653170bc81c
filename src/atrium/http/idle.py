"""Closing connections that were idle for too long: one timer for all of them.

A timer that is set for every answer and cancelled for every request costs as much as reading the request's head.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Protocol

SWEEP = 0.5
"""Seconds between two looks, or a quarter of the patience where that is less."""


class MayIdle(Protocol):
    idle_since: float
    """On the monotonic clock; 0 while a request is under way."""

    def close_idle(self) -> None: ...


class IdleWatch:
    def __init__(self, patience: float) -> None:
        """`patience` in seconds."""
        self._patience = patience
        self._tick = min(SWEEP, patience / 4)
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, connections: Iterable[MayIdle], loop: asyncio.AbstractEventLoop) -> None:
        """Called for each new connection; `connections` is the live set of all."""
        if self._timer is None:
            self._timer = loop.call_later(self._tick, self._look, connections, loop)

    def _look(self, connections: Iterable[MayIdle], loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        oldest = time.monotonic() - self._patience
        open_ones = list(connections)
        for one in open_ones:
            if 0 < one.idle_since < oldest:
                one.close_idle()
        if open_ones:
            self.watch(connections, loop)
