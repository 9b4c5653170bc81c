"""The line for a runner's slots: callers take turns, and one caller's requests keep their order."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable

from atrium.core.errors import AtriumError, QueueFull

RETRY = 5.0


class TurnLine:
    """A book of slots. It decides without awaiting, so it needs no lock."""

    def __init__(self, slots: int, *, longest: int, patience: float) -> None:
        self.slots = slots
        self.busy = 0
        self._longest = longest
        self._patience = patience
        self._lines: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._closed: Callable[[], AtriumError] | None = None

    @property
    def closed(self) -> bool:
        return self._closed is not None

    @property
    def waiting(self) -> int:
        return sum(len(line) for line in self._lines.values())

    async def take(self, who: str) -> float:
        """Hold a slot, which must be given back; returns the seconds waited.

        Raises QueueFull when the line is too long or does not move, and what the line was closed with.
        """
        if self._closed:
            raise self._closed()
        if self.busy < self.slots and not self._lines:
            self.busy += 1
            return 0.0
        if self.waiting >= self._longest and not self._make_room(who):
            raise QueueFull(f"{self._longest} requests wait for this model already", retry_after=RETRY)
        return await self._wait(who)

    def give_back(self) -> None:
        self.busy -= 1
        self._call_next()

    def close(self, why: Callable[[], AtriumError]) -> None:
        """Nobody gets a slot any more; those who wait are told why. The first reason stays."""
        self._closed = self._closed or why
        for line in self._lines.values():
            for turn in line:
                if not turn.done():
                    turn.set_exception(why())
        self._lines.clear()

    def counts(self) -> dict[str, int]:
        """Requests that wait, by caller."""
        return {who: len(line) for who, line in self._lines.items()}

    def displace(self, who: str) -> bool:
        """The last of this caller's requests gives up its place; False when none waits."""
        if not (line := self._lines.get(who)):
            return False
        turn = line.pop()
        if not line:
            del self._lines[who]
        if not turn.done():
            turn.set_exception(displaced())
        return True

    def _make_room(self, who: str) -> bool:
        """In a full line, whoever waits with the most requests makes room for one who has fewer."""
        greediest = max(self._lines, key=lambda name: len(self._lines[name]))
        if len(self._lines.get(who, ())) + 1 >= len(self._lines[greediest]):
            return False
        return self.displace(greediest)

    async def _wait(self, who: str) -> float:
        loop = asyncio.get_running_loop()
        since = loop.time()
        turn: asyncio.Future[None] = loop.create_future()
        self._lines.setdefault(who, deque()).append(turn)
        try:
            async with asyncio.timeout(self._patience):
                await turn
        except TimeoutError:
            self._withdraw(who, turn)
            raise QueueFull(f"no slot became free within {self._patience:g} s", retry_after=RETRY) from None
        except asyncio.CancelledError:
            self._withdraw(who, turn)
            raise
        return loop.time() - since

    def _withdraw(self, who: str, turn: asyncio.Future[None]) -> None:
        """Its slot may have been handed over in the very moment when its owner left."""
        if turn.done() and not turn.cancelled():
            if turn.exception() is None:
                self.give_back()
            return
        if turn in (line := self._lines.get(who, deque())):
            line.remove(turn)
            if not line:
                del self._lines[who]

    def _call_next(self) -> None:
        while self.busy < self.slots and self._lines:
            who, line = self._lines.popitem(last=False)
            turn = line.popleft()
            if line:
                self._lines[who] = line
            if not turn.done():
                self.busy += 1
                turn.set_result(None)


def displaced() -> QueueFull:
    return QueueFull("too many of your requests wait for this model, and others wait too", retry_after=RETRY)
