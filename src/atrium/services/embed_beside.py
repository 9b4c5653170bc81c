"""Vectors that the server itself needs, of a query or a document: they count for whom they are made."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from atrium.core.answers import Vectors
from atrium.core.models import Ability
from atrium.core.people import Caller
from atrium.core.quotas import Worst
from atrium.core.requests import Embed
from atrium.core.trails import Beside, Trail
from atrium.core.usage import UsageRecord
from atrium.services.embed import EmbedTexts
from atrium.services.metered import Usher

DOOR = "lollms"
"""Of what was used when its request had long been answered."""


@dataclass(frozen=True, slots=True)
class EmbedBeside:
    """A store's model is its owner's choice: which models a key is good for does not matter here, its quotas do."""

    embeddings: EmbedTexts
    usher: Usher
    note: Callable[[UsageRecord], None]

    async def __call__(self, embed: Embed, caller: Caller, trail: Trail | None = None) -> Vectors:
        """What was used is noted on the request's `trail`, or written down by itself where no request waits for it.

        Raises RateLimited, and what the embedding raises.
        """
        started = time.monotonic()
        names = self.usher.meant(embed.model, Ability.EMBEDDING)
        own = (trail or Trail()).aside()
        vectors, usage = await self.usher.embed(
            names, embed, caller, lambda: self.embeddings(embed, caller, own), asked=False
        )
        used = Beside(own.model or vectors.model, own.endpoint, usage, exact=bool(vectors.usage.prompt_tokens))
        if trail is None:
            self.note(record_beside(used, caller, DOOR, time.monotonic() - started))
        else:
            trail.beside.append(used)
        return vectors

    def is_elsewhere(self, model: str) -> bool:
        """Whether the name means a model of an endpoint."""
        return self.embeddings.elsewhere.answers(model, self.usher.models.snapshot(), Ability.EMBEDDING)

    def check_left(self, model: str, caller: Caller) -> None:
        """Raises RateLimited where not one token is left, before any work is begun."""
        names = self.usher.meant(model, Ability.EMBEDDING)
        self.usher.meter.use(caller, names, Worst(1, 1), asked=False).settle(0, counts=False)


def record_beside(used: Beside, caller: Caller, door: str, seconds: float = 0.0) -> UsageRecord:
    return UsageRecord(
        at=time.time(),
        door=door,
        user_id=caller.user_id or 0,
        key_id=caller.key_id or 0,
        model=used.model,
        endpoint=used.endpoint,
        requests=0,
        failures=0,
        prompt_tokens=used.usage.prompt_tokens,
        completion_tokens=used.usage.completion_tokens,
        seconds=seconds,
        exact=used.exact,
        hits=0,
    )
