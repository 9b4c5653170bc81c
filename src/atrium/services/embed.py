"""The promise behind embeddings: unit length, in order, and never of a text that was cut in silence."""

from __future__ import annotations

import asyncio
import math
from array import array
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from atrium.core.answers import Timing, Usage, Vectors
from atrium.core.errors import ContextTooLong, InvalidValue, UpstreamTimeout
from atrium.core.models import Ability, Vocabulary
from atrium.core.people import Caller
from atrium.core.ports import Engines, Lease, Models, Relay
from atrium.core.requests import Embed, Prompt
from atrium.core.trails import Trail
from atrium.decisions.plan_batches import plan_batches
from atrium.decisions.resolve_name import resolve_name
from atrium.decisions.tune_card import tune_card
from atrium.services.elsewhere import Elsewhere
from atrium.services.leasing import Leasing

Ids = tuple[int, ...]
CHARACTERS = 4
"""About as many make a token; only for planning batches."""
ROUNDING = 1e-6
"""How far from one a length may be that float32 cannot tell from it."""


@dataclass(frozen=True, slots=True)
class EmbedTexts:
    models: Models
    engines: Engines
    relay: Relay
    elsewhere: Elsewhere
    answer_timeout: float
    """Seconds for one whole answer."""

    async def __call__(self, embed: Embed, caller: Caller, trail: Trail | None = None) -> Vectors:
        """Raises InvalidValue, ContextTooLong, and what a lease of the model, or an endpoint, raises."""
        catalog, trail = self.models.snapshot(), trail or Trail()
        if self.elsewhere.answers(embed.model, catalog, Ability.EMBEDDING):
            return await self._elsewhere(embed, trail)
        card = tune_card(resolve_name(embed.model, catalog, Ability.EMBEDDING), embed.tuning)
        trail.dropped += embed.tuning.unmet
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
            raise too_long() from None

    async def _elsewhere(self, embed: Embed, trail: Trail) -> Vectors:
        """Vectors are cut and scaled here, whatever the endpoint made of the wish."""
        try:
            embedded = await self.elsewhere.embed(embed, trail)
        except TimeoutError:
            raise too_long() from None
        vectors = tuple(unit_length(numbers, embed.dimensions) for numbers in embedded.vectors)
        return Vectors(embed.model, vectors, Usage(prompt_tokens=embedded.tokens))

    async def _embed(self, embed: Embed, lease: Lease) -> Vectors:
        """Plain texts go to the engine as they are. Whatever needs counting or cutting, or could be taken for a control
        token, is tokenised first."""
        texts = plain_texts(embed.inputs, lease.runner.card.facts.vocabulary)
        if texts is not None:
            try:
                return await self._run(embed, lease, texts, [len(text) // CHARACTERS for text in texts])
            except ContextTooLong:
                pass
        ids = fitted(await self.relay.tokenize(embed.inputs, lease.runner), lease.runner.context, embed)
        return await self._run(embed, lease, ids, [len(one) for one in ids])

    async def _run(
        self, embed: Embed, lease: Lease, inputs: Sequence[str] | Sequence[Ids], lengths: Sequence[int]
    ) -> Vectors:
        runner = lease.runner
        vectors: list[bytes] = [b""] * len(inputs)
        tokens, queued = 0, 0.0
        for batch in plan_batches(lengths, most_tokens=runner.context * runner.slots):
            async with lease.turn() as waited:
                made = await self.relay.embed(chosen(inputs, batch), runner)
            tokens += made.tokens
            queued += waited
            for index, numbers in zip(batch, made.vectors, strict=True):
                vectors[index] = unit_length(numbers, embed.dimensions)
        timing = Timing(queued=queued, loaded=lease.loaded_in, evicted=lease.evicted)
        return Vectors(embed.model or runner.card.name, tuple(vectors), Usage(prompt_tokens=tokens), timing)


def too_long() -> UpstreamTimeout:
    return UpstreamTimeout("The texts took longer than one answer may", hint="Send fewer at once")


def plain_texts(inputs: Sequence[Prompt], vocabulary: Vocabulary) -> list[str] | None:
    """The inputs, if all are texts in which nothing can be taken for a control token."""
    texts = [one for one in inputs if isinstance(one, str)]
    if len(texts) < len(inputs):
        return None
    names = [name.casefold() for name in vocabulary.control]
    return None if any(name in folded for folded in map(str.casefold, texts) for name in names) else texts


def chosen(inputs: Sequence[str] | Sequence[Ids], places: Sequence[int]) -> Sequence[str] | Sequence[Ids]:
    return [inputs[place] for place in places]  # type: ignore[return-value]


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


def unit_length(numbers: array[float], dimensions: int | None) -> bytes:
    """Little-endian float32, cut to `dimensions` and scaled."""
    kept = numbers[:dimensions] if dimensions else numbers
    length = math.hypot(*kept)
    if length and abs(length - 1) > ROUNDING:
        kept = array("f", [x / length for x in kept])
    return kept.tobytes()
