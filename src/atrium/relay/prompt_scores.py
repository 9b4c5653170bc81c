"""Scores of a prompt's own tokens from a runner: the prompt is generated, stretch by stretch."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from atrium.core.answers import TokenScore
from atrium.core.endpoints import Runner
from atrium.core.errors import EngineFailed, EngineNonsense, UpstreamFailed
from atrium.dialects.llamacpp.prompt_scores import (
    forced_body,
    forced_probs,
    found_among,
    own_bytes,
    scores_over,
    whole_body,
)
from atrium.dialects.llamacpp.stream import Chunk, ChunkReader, TokenProb, failure_of
from atrium.relay.deadlines import Deadlines
from atrium.relay.send import Answer, posted
from atrium.relay.tokens import text_of

STRETCH = 256
"""Tokens that one request scores: as many as a grammar is soon made of."""
RANKED = 2048
"""Tokens of a distribution that are asked for first, when one must be found in it; then all are."""
MOST_RANKED = 64 * 1024 * 1024
"""Bytes of a whole distribution."""
MOST_REASON = 64 * 1024


@dataclass(frozen=True, slots=True)
class PromptScorer:
    """Needs a slot, which keeps the prompt for the answer that follows."""

    runner: Runner
    deadlines: Deadlines
    ids: tuple[int, ...]
    top: int
    """Likeliest tokens that are wanted at each place."""

    async def __call__(self, text: str, shown: range) -> tuple[TokenScore, ...]:
        """Of all tokens that show as the text but the first.

        Raises NotSent, EngineFailed, EngineSilent, EngineNonsense, UpstreamFailed.
        """
        told = await self._forced()
        places = range(1, len(self.ids))
        alone = {place: await self._looked_up(place) for place in places if place not in told}
        probs = [alone.get(place) or told[place] for place in places]
        raws = own_bytes(probs, [place in alone for place in places])
        names: dict[int, bytes] = {}
        for token in {token for token, raw in zip(self.ids[1:], raws, strict=True) if not raw}:
            names[token] = (await text_of([token], self.runner, self.deadlines)).encode()
        named = [raw or names[token] for token, raw in zip(self.ids[1:], raws, strict=True)]
        scored = slice(shown.start, shown.stop - 1)
        return scores_over(text, named[scored], probs[scored], self.top)

    async def _forced(self) -> dict[int, TokenProb]:
        """By place in the prompt, as far as the engine tells."""
        told: dict[int, TokenProb] = {}
        done = 1
        while done < len(self.ids):
            forced = self.ids[done : done + STRETCH]
            body = forced_body(self.ids[:done], forced, self.top)
            generated = 0
            async with posted(self.runner.socket, "/completion", body, self.deadlines) as answer:
                await refuse_failed(answer)
                async for chunk in chunks_of(answer):
                    told |= {done + place: prob for place, prob in forced_probs(chunk, forced).items()}
                    generated = max(generated, chunk.tokens_predicted)
            # A token that ends answers ends the stretch, too.
            done += max(1, generated)
        return told

    async def _looked_up(self, place: int) -> TokenProb:
        found: TokenProb | None = None
        for most in (RANKED, self.runner.card.facts.vocabulary.size):
            body = whole_body(self.ids[:place], most)
            async with posted(self.runner.socket, "/completion", body, self.deadlines) as answer:
                await refuse_failed(answer)
                async for chunk in chunks_of(answer):
                    found = found or found_among(chunk.completion_probabilities, self.ids[place], self.top)
            if found is not None:
                return found
        raise EngineNonsense("The engine gives no chance to a token of the prompt")


async def refuse_failed(answer: Answer) -> None:
    if answer.status != 200:
        raise UpstreamFailed(f"The engine refused to score the prompt: {failure_of(await answer.body(MOST_REASON))}")


async def chunks_of(answer: Answer) -> AsyncGenerator[Chunk]:
    """Until the last. Raises EngineFailed where it is missing."""
    reader = ChunkReader(MOST_RANKED)
    while data := await answer.piece():
        for chunk in reader.feed(data):
            yield chunk
            if chunk.stop:
                return
    raise EngineFailed("The engine broke off while it scored the prompt", hint="Ask again; its log says why")
