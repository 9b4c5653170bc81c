"""Having a model in memory before anybody asks it anything, and out of it again."""

from __future__ import annotations

from dataclasses import dataclass

from atrium.core.models import Ability, ModelCard
from atrium.core.people import Caller
from atrium.core.ports import Engines, Remote
from atrium.core.requests import Chat, Tuning
from atrium.core.trails import Trail
from atrium.decisions.allow import check_model
from atrium.decisions.tune_card import tune_card
from atrium.services.metered import Usher


@dataclass(frozen=True, slots=True)
class LoadModel:
    engines: Engines
    remote: Remote
    usher: Usher

    async def load(self, card: ModelCard, caller: Caller, keep_alive: float | None, tuning: Tuning) -> float:
        """Seconds that it took. Raises Forbidden, and what `engines.lease` raises."""
        check_model(caller, (card.name,))
        async with self.engines.lease(tune_card(card, tuning), caller, keep_alive=keep_alive) as lease:
            return lease.loaded_in

    async def unload(self, card: ModelCard, caller: Caller) -> None:
        """Returns when it is out of memory, or was not in it; answers under way end first. Raises Forbidden."""
        check_model(caller, (card.name,))
        await self.engines.unload(card.name)

    async def elsewhere(self, chat: Chat, caller: Caller, trail: Trail) -> None:
        """Of a chat without words, for a model of an endpoint. Raises Forbidden, and what `remote.load` raises."""
        self.usher.names(caller, chat.model, Ability.CHAT)
        await self.remote.load(chat, trail)
