"""The promise behind embeddings: unit length, in order, and never of a text that was cut in silence."""

from __future__ import annotations

import asyncio
import math
from array import array
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from atrium.core.answers import Usage, Vectors
from atrium.core.errors import ContextTooLong, InvalidValue, UpstreamTimeout
from atrium.core.models import Ability
from atrium.core.people import Caller
from atrium.core.ports import Engines, Lease, Models, Relay
from atrium.core.requests import Embed
from atrium.decisions.plan_batches import plan_batches
from atrium.decisions.resolve_name import resolve_name
from atrium.services.leasing import Leasing

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class EmbedTexts:
    models: Models
    engines: Engines
    relay: Relay
    answer_timeout: float
    """Seconds for one whole answer."""

    async def __call__(self, embed: Embed, caller: Caller) -> Vectors:
        """Raises InvalidValue, ContextTooLong, and what a lease of the model raises."""
        card = resolve_name(embed.model, self.models.snapshot(), Ability.EMBEDDING)
        native = card.facts.dimensions.embedding_length
        if embed.dimensions and embed.dimensions > native:
            message = f"'dimensions' is {embed.dimensions}, but the model '{card.name}' makes {native} numbers"
            raise InvalidValue(message, param="dimensions")

        async def act(lease: Lease, stack: AsyncExitStack) -> Vectors:
            async with stack:
                return await self._embed(embed, lease)

        try:
            async with asyncio.timeout(self.answer_timeout):
                return await Leasing(self.engines).run(card, caller, embed.keep_alive, act)
        except TimeoutError:
            raise UpstreamTimeout("The texts took longer than one answer may", hint="Send fewer at once") from None

    async def _embed(self, embed: Embed, lease: Lease) -> Vectors:
        runner = lease.runner
        inputs = await self.relay.tokenize(embed.inputs, runner)
        inputs = fitted(inputs, runner.context, embed)
        batches = plan_batches([len(ids) for ids in inputs], most_tokens=runner.context * runner.slots)
        vectors: list[bytes] = [b""] * len(inputs)
        for batch in batches:
            async with lease.turn():
                made = await self.relay.embed([inputs[i] for i in batch], runner)
            for index, numbers in zip(batch, made, strict=True):
                vectors[index] = unit_length(numbers, embed.dimensions)
        name = embed.model or runner.card.name
        return Vectors(name, tuple(vectors), Usage(prompt_tokens=sum(len(ids) for ids in inputs)))


def fitted(inputs: Sequence[Ids], window: int, embed: Embed) -> tuple[Ids, ...]:
    """Raises ContextTooLong for an input over the window, unless the caller asked for cutting."""
    for index, ids in enumerate(inputs):
        if len(ids) > window and not embed.truncate:
            place = f"input[{index}]" if len(inputs) > 1 else "input"
            raise ContextTooLong(
                f"'{place}' has {len(ids)} tokens, but the model takes {window}",
                hint='Split the text, or send "truncate": true to have it cut',
                param="input",
            )
    # The last id is the model's own end token, which a cut text needs as well.
    return tuple(ids if len(ids) <= window else (*ids[: window - 1], ids[-1]) for ids in inputs)


def unit_length(numbers: Sequence[float], dimensions: int | None) -> bytes:
    """Little-endian float32, cut to `dimensions` and scaled."""
    kept = numbers[:dimensions] if dimensions else numbers
    length = math.sqrt(math.fsum(x * x for x in kept)) or 1.0
    return array("f", [x / length for x in kept]).tobytes()
