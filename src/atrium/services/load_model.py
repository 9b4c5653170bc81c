"""Having a model in memory before anybody asks it anything, and out of it again."""

from __future__ import annotations

from dataclasses import dataclass

from atrium.core.models import ModelCard
from atrium.core.people import Caller
from atrium.core.ports import Engines
from atrium.decisions.allow import check_model


@dataclass(frozen=True, slots=True)
class LoadModel:
    engines: Engines

    async def load(self, card: ModelCard, caller: Caller, keep_alive: float | None) -> float:
        """Seconds that it took. Raises Forbidden, and what `engines.lease` raises."""
        check_model(caller, (card.name,))
        async with self.engines.lease(card, caller, keep_alive=keep_alive) as lease:
            return lease.loaded_in

    async def unload(self, card: ModelCard, caller: Caller) -> None:
        """Returns when it is out of memory, or was not in it; answers under way end first. Raises Forbidden."""
        check_model(caller, (card.name,))
        await self.engines.unload(card.name)
