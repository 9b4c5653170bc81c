"""The right to use one loaded model."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from atrium.core.endpoints import Runner
from atrium.engines.berth import Life


class Tell(Protocol):
    """Takes the life that is found broken, and whether other answers of it must end as well."""

    def __call__(self, life: Life, reason: str, *, at_once: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class HeldLease:
    life: Life
    who: str
    """Whose turn it is, for fairness."""
    loaded_in: float
    evicted: tuple[str, ...]
    """Models that were stopped so that this one could be loaded for it."""
    tell: Tell
    runner: Runner

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[float]:
        waited = await self.life.line.take(self.who)
        try:
            yield waited
        finally:
            self.life.line.give_back()

    def failed(self, reason: str) -> None:
        self.tell(self.life, reason, at_once=True)

    def doubted(self, reason: str) -> None:
        self.tell(self.life, reason, at_once=False)
