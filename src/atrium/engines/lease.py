"""The right to use one loaded model."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from atrium.core.endpoints import Runner
from atrium.engines.berth import Life


@dataclass(frozen=True, slots=True)
class HeldLease:
    life: Life
    who: str
    """Whose turn it is, for fairness."""
    loaded_in: float
    tell: Callable[[Life, str], None]
    runner: Runner

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[float]:
        waited = await self.life.line.take(self.who)
        try:
            yield waited
        finally:
            self.life.line.give_back()

    def failed(self, reason: str) -> None:
        self.tell(self.life, reason)
