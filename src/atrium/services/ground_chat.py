"""Chat over document stores: what fits the last question is found and put before the model."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, zip_longest

from atrium.core.documents import Citation, Found, Mode, Query, Store
from atrium.core.errors import InvalidValue
from atrium.core.people import Caller
from atrium.core.requests import Chat, Grounding
from atrium.core.trails import Trail
from atrium.decisions.ground_prompt import ground_prompt, question_of
from atrium.services.search_store import SearchStore
from atrium.services.stores import Stores


@dataclass(frozen=True, slots=True)
class GroundChat:
    stores: Stores
    search: SearchStore

    async def __call__(self, chat: Chat, caller: Caller, trail: Trail) -> tuple[Chat, tuple[Citation, ...] | None]:
        """The chat with passages in it, and which they are; None where it asks for no store.

        Raises NotFound for a store that the caller may not read, InvalidValue where there is no question, and what
        embedding raises.
        """
        if chat.grounding is None:
            return chat, None
        question = question_of(chat)
        if not question:
            raise InvalidValue("There is no message of the user's to look for in the stores", param="messages")
        citations = await self._cited(chat.grounding, question, caller, trail)
        return ground_prompt(chat, citations), citations

    async def _cited(self, grounding: Grounding, question: str, caller: Caller, trail: Trail) -> tuple[Citation, ...]:
        """The best of each store first, then each second best: their scores say nothing of each other."""
        query = Query(question, grounding.top_k, mode=Mode.HYBRID)
        reached = {one.store.id: one.store for one in [await self.stores.named(n, caller) for n in grounding.stores]}
        found: list[list[tuple[Store, Found]]] = [
            [(store, one) for one in await self.search.within(store, query, caller, trail)]
            for store in reached.values()
        ]
        ranked = [pair for pair in chain.from_iterable(zip_longest(*found)) if pair is not None]
        numbered = enumerate(ranked[: grounding.top_k], start=1)
        return tuple(Citation(number, store, one) for number, (store, one) in numbered)
