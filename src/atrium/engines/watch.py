"""How much memory the runners may take just now, from looks at them and at the machine."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from atrium.engines.berth import Life
from atrium.engines.bounds import Bounds
from atrium.engines.placement.local import LocalPlacement
from atrium.engines.seen import SeenMemory


class MemoryWatch:
    def __init__(self, placement: LocalPlacement, bounds: Bounds, seen: SeenMemory) -> None:
        self._placement = placement
        self._bounds = bounds
        self._seen = seen
        self._left: int | None = None
        """Bytes that the machine had left at the last look; None: it was not looked at, or does not say."""

    def allowed(self, lives: Sequence[Life]) -> int:
        """Bytes that all runners may take together: less than the budget when other programs hold the rest."""
        if self._left is None:
            return self._bounds.memory
        measured = sum(life.process.memory for life in lives)
        return max(0, min(self._bounds.memory, measured + self._left - self._bounds.reserve))

    @property
    def critical(self) -> bool:
        """The machine is about to run out of memory."""
        return self._left is not None and self._left < self._bounds.reserve // 2

    async def look(self, lives: Sequence[Life]) -> None:
        """Measure, and note what was seen."""
        self._left = await asyncio.to_thread(self._placement.measure, [life.process for life in lives])
        for life in lives:
            self.note(life)

    def note(self, life: Life) -> None:
        self._seen.note(life.plan.fingerprint, base=life.process.base, peak=life.process.peak)

    async def remember(self) -> None:
        """Write down what is new."""
        if self._seen.changed:
            await asyncio.to_thread(self._seen.save)
