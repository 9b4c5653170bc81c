"""Whose turn it is on a client's connection: requests are answered in the order in which they came.

A client that does not read is sent no more than its connection holds, and may keep it no longer than one that is idle:
in mid answer it would keep a slot of a model, too.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from atrium.http.relayed import Relayed
from atrium.settings.tree import Limits

Cycle = RequestResponseCycle | Relayed
MOST_PIPELINED = 8
"""Requests that may wait behind one another before the client is no longer read from."""


class Turns(HttpToolsProtocol):
    """One client connection, between the requests that came and the answers that go."""

    limits = Limits()

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._now: Cycle | None = None
        """Whose turn it is; `cycle` is the newest, which may still wait for its turn."""
        self._giving_turns = False
        self.idle_since = 0.0
        self._unread = (0, 0.0)
        """Bytes that waited for the client when it was last looked at, and when that was."""
        self._stalled: asyncio.TimerHandle | None = None

    def on_response_complete(self) -> None:
        """As uvicorn has it, but for its timer of each answer: `IdleWatch` has one for all."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.flow.read_paused:
            self.flow.resume_reading()
        if self.pipeline:
            self._give_turns()
        else:
            self.idle_since = time.monotonic()

    def _give_turns(self) -> None:
        """To the next request, and on to those behind it for as long as each is answered at once: one read can bring
        thousands, so none may be answered from within the answer to the one before."""
        if self._giving_turns:
            return
        self._giving_turns = True
        try:
            while self.pipeline and not (self._is_answering or self.flow.write_paused or self.transport.is_closing()):
                cycle, app = self.pipeline.pop()
                self._start_asgi_task(cycle, app)
        finally:
            self._giving_turns = False
        if self.pipeline:
            self._wait_for_reader()

    def _wait_for_reader(self) -> None:
        """A client that does not read what it was sent gets no more answers, and has not longer than an idle one."""
        if self.flow.write_paused and not self._is_answering:
            self.idle_since = time.monotonic()
            self.flow.pause_reading()

    @property
    def _is_answering(self) -> bool:
        return self._now is not None and not self._now.response_complete

    @property
    def _is_free(self) -> bool:
        """Whether a request that comes now may have its turn at once."""
        return not (self.flow.write_paused or (self.cycle and not self.cycle.response_complete))

    def close_idle(self) -> None:
        """Who reads slowly what was written gets it; who reads nothing may not keep the connection by that."""
        unread = self.transport.get_write_buffer_size()
        if unread and self._unread == (unread, self.idle_since):
            self.transport.abort()
        elif unread:
            self.idle_since = time.monotonic()
            self._unread = (unread, self.idle_since)
        elif not self.cycle or self.cycle.response_complete:
            self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        if relayed := as_relayed(self._now):
            relayed.pause()
        elif self._is_answering:
            self._watch_reader()

    def _watch_reader(self) -> None:
        """The application waits without a bound for its reader, who must read something now and then."""
        unread = self.transport.get_write_buffer_size()
        self._stalled = self.loop.call_later(self.limits.idle_timeout, self._look_at_reader, unread)

    def _look_at_reader(self, before: int) -> None:
        if self.transport.get_write_buffer_size() < before:
            self._watch_reader()
        else:
            self.transport.abort()

    def unwatch_reader(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def resume_writing(self) -> None:
        super().resume_writing()
        self.unwatch_reader()
        if relayed := as_relayed(self._now):
            relayed.resume()
        if self.pipeline and not self._is_answering:
            self.idle_since = 0.0
            self.flow.resume_reading()
            self._give_turns()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """uvicorn calls this when a request's turn has come."""
        self._now = cycle
        relayed = as_relayed(cycle)
        if relayed is None:
            super()._start_asgi_task(cycle, app)
        else:
            relayed.start()

    def _read_on(self) -> None:
        """Reading stops only when many requests wait: while it is stopped nobody sees that the client has left."""
        if self.pipeline and len(self.pipeline) < MOST_PIPELINED:
            self.flow.resume_reading()


def as_cycle(one: Cycle) -> RequestResponseCycle:
    """uvicorn looks at what both have in common."""
    return cast("RequestResponseCycle", one)


def as_relayed(one: object) -> Relayed | None:
    return one if isinstance(one, Relayed) else None
