"""Answers of models that run on endpoints: the same words, wherever they are answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from atrium.core.answers import Embedded, Events
from atrium.core.models import Ability, Catalog
from atrium.core.ports import Remote
from atrium.core.requests import Chat, Completion, Embed
from atrium.core.trails import Trail
from atrium.decisions.resolve_name import installed
from atrium.services.generation import Held, Part, begin


class Unbounded:
    """Stands for a lease: an endpoint's own book tells who may ask it and when."""

    loaded_in = 0.0
    evicted: tuple[str, ...] = ()

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[float]:
        yield 0.0

    def failed(self, reason: str) -> None:
        """Its circuit has been told already."""

    def doubted(self, reason: str) -> None:
        """So it has been of this."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    remote: Remote
    answer_timeout: float
    """Seconds for one whole answer."""

    def answers(self, name: str, catalog: Catalog, ability: Ability) -> bool:
        """Whether a name means a model of an endpoint: one that is installed here comes first."""
        return bool(name) and installed(name, catalog, ability) is None and self.remote.serves(name)

    async def chat(self, chat: Chat, trail: Trail) -> Events:
        """Raises what an opened `Remote.chat` does."""
        prepared = self.remote.chat(chat, trail)
        parts = [Part(choice, prepared, 0, chat.sampling.seed_of(choice)) for choice in range(chat.choices)]
        return await self._begun(chat.model, parts, trail)

    async def complete(self, completion: Completion, trail: Trail) -> Events:
        """Choices are counted prompt by prompt. Raises as `chat` does."""
        parts: list[Part] = []
        for number, prepared in enumerate(self.remote.completion(completion, trail)):
            for choice in range(completion.best_of):
                seed = completion.sampling.seed_of(choice)
                parts.append(Part(number * completion.best_of + choice, prepared, 0, seed))
        return await self._begun(completion.model, parts, trail)

    async def embed(self, embed: Embed, trail: Trail) -> Embedded:
        """Raises as `chat` does, and TimeoutError."""
        async with asyncio.timeout(self.answer_timeout):
            return await self.remote.embed(embed, trail)

    async def _begun(self, model: str, parts: Sequence[Part], trail: Trail) -> Events:
        deadline = asyncio.get_running_loop().time() + self.answer_timeout
        async with AsyncExitStack() as until_done:
            stack = await until_done.enter_async_context(AsyncExitStack())
            events = await begin(parts, Held(stack, Unbounded(), deadline))
            until_done.pop_all()
        return Events(model, f"fp_{trail.endpoint}", events, tuple(trail.dropped))
