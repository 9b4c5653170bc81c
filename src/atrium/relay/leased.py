"""One try at an endpoint: its lease, its connection, and what the directory's figures make of how it went."""

from __future__ import annotations

import asyncio
import time

from atrium.core.errors import NotSent, QueueFull
from atrium.core.trails import Trail
from atrium.decisions.break_circuit import Outcome
from atrium.relay.directory import Directory, Endpoint
from atrium.relay.inbox import Inbox
from atrium.relay.tally import Took, took
from atrium.relay.upstream import Upstream


class Try:
    """Give it back exactly once, by `end`."""

    def __init__(self, directory: Directory, endpoint: Endpoint, trail: Trail) -> None:
        self.endpoint = endpoint
        self.began = time.monotonic()
        self.size = 0
        """Bytes of the answer."""
        self._directory = directory
        self._trail = trail
        self._upstream: Upstream | None = None
        self._inbox: Inbox | None = None
        self.over = False
        endpoint.lease(self.began)

    async def send(self, head: bytes, body: bytes) -> Inbox:
        """Raises NotSent; then the lease was given back."""
        try:
            upstream = self.endpoint.pool.take(self.began) or await self.endpoint.pool.connect()
        except NotSent as refused:
            self._directory.refused(self.endpoint)
            self.end(Outcome.FAILURE, refused.message)
            raise
        except BaseException:
            self.end(Outcome.NEITHER, "the client left")
            raise
        self._upstream = upstream
        self._inbox = Inbox(upstream)
        upstream.send(self._inbox, head, body, head_only=False)
        return self._inbox

    def end(self, outcome: Outcome, how: str) -> None:
        """Also closes the connection, unless its answer has come whole."""
        if self.over:
            return
        self.over = True
        if self._upstream is not None and not (self._inbox and self._inbox.whole):
            self._upstream.abort()
        endpoint, trail = self.endpoint, self._trail
        sent = self._upstream is not None
        size = self.size if sent else None
        seconds, cost = give_back(endpoint, self.began, size, outcome if sent else Outcome.NEITHER, outcome)
        trail.tries.append((endpoint.spec.name, how, seconds))
        if cost is not None and not cost.failed:
            self._directory.tallies.note_model(trail.model, endpoint.spec.name, trail.address, cost)


def give_back(
    endpoint: Endpoint, began: float, size: int | None, outcome: Outcome, tallied: Outcome
) -> tuple[float, Took | None]:
    """A lease that was taken at `began`; gives the seconds since, and what the endpoint's figures got.

    `size`: bytes of the answer, None when no connection was made. What the circuit makes of it, `outcome`, may differ
    from what the figures do; who left is in neither.
    """
    now = time.monotonic()
    seconds = now - began
    endpoint.give_back(outcome, now)
    if tallied is Outcome.NEITHER:
        return seconds, None
    if size is None:
        endpoint.tally.note_refused(time.time())
        return seconds, None
    cost = took(seconds, size, failed=tallied is Outcome.FAILURE, at=time.time())
    endpoint.tally.note(cost)
    return seconds, cost


async def turn_of(endpoint: Endpoint, most: int, patience: float) -> float:
    """Wait until an endpoint is free that is busy with all it may have; gives the seconds waited.

    Raises QueueFull when `most` wait already, or after `patience` seconds.
    """
    if not endpoint.full:
        return 0.0
    name = endpoint.spec.name
    if len(endpoint.waiting) >= most:
        raise QueueFull(f"{len(endpoint.waiting)} requests wait for '{name}' already", retry_after=1)
    turn = asyncio.Event()
    endpoint.waiting.append(turn.set)
    began = time.monotonic()
    try:
        async with asyncio.timeout(patience):
            await turn.wait()
    except BaseException as left:
        if turn.is_set():
            # Given up at the very moment its turn came: it is the next one's.
            endpoint.promised -= 1
            endpoint.wake()
        else:
            endpoint.waiting.remove(turn.set)
        if isinstance(left, TimeoutError):
            raise QueueFull(f"'{name}' was busy for {time.monotonic() - began:.0f} s") from None
        raise
    endpoint.promised -= 1
    return time.monotonic() - began
