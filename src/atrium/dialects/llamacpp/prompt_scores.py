"""Scores of a prompt's own tokens, from an engine that only scores what it generates.

The engine is made to generate the prompt: a grammar leaves it no choice, while the chances that it tells are those of
the model's raw distribution, before any grammar. It tells none for a token that leaves a character unfinished, and goes
no further than a token that ends answers; the chances of the former are looked up in the whole distribution at their
place, where a token that is always whole is generated in their stead.
"""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections.abc import Mapping, Sequence

from atrium.core.answers import TokenChance, TokenScore
from atrium.core.errors import EngineNonsense
from atrium.core.requests import Sampling
from atrium.dialects.llamacpp.grammar import HEADER
from atrium.dialects.llamacpp.reply import chance_of
from atrium.dialects.llamacpp.request import Shaping, completion_body
from atrium.dialects.llamacpp.stream import Chunk, TokenProb

SLACK = 64
"""Characters within which a token's text is looked for where the tokenizer lost some before it."""
GREEDY = Sampling(temperature=0.0)
WHOLE = Shaping(HEADER + 'start: "a"')
"""One token that is a whole character in every vocabulary."""


def forced_body(before: Sequence[int], forced: Sequence[int], top: int) -> bytes:
    """Generates the ids `forced` after those before them."""
    grammar = HEADER + "start: " + " ".join(f"<[{token}]>" for token in forced)
    shaping = Shaping(grammar)
    return completion_body(before, GREEDY, max_tokens=len(forced), seed=None, shaping=shaping, top_logprobs=top)


def whole_body(before: Sequence[int], most: int) -> bytes:
    """Tells the `most` likeliest tokens after those ids."""
    return completion_body(before, GREEDY, max_tokens=1, seed=None, shaping=WHOLE, top_logprobs=most)


def forced_probs(chunk: Chunk, forced: Sequence[int]) -> Mapping[int, TokenProb]:
    """What a chunk tells, by its place in `forced`. Raises EngineNonsense."""
    if not chunk.completion_probabilities:
        return {}
    place = chunk.tokens_predicted - 1
    prob = chunk.completion_probabilities[-1]
    if not 0 <= place < len(forced) or prob.id != forced[place]:
        raise EngineNonsense("The engine scored another text than the prompt")
    return {place: prob}


def found_among(ranked: Sequence[TokenProb], token: int, top: int) -> TokenProb | None:
    """`ranked` holds one place's distribution, or the likeliest of it."""
    if not ranked:
        return None
    others = ranked[-1].top_logprobs
    chosen = next((one for one in others if one.id == token), None)
    return chosen and TokenProb(chosen.id, chosen.token, chosen.bytes, chosen.logprob, others[:top])


def scores_over(text: str, raws: Sequence[bytes], probs: Sequence[TokenProb], top: int) -> tuple[TokenScore, ...]:
    """Of all tokens but the first, whose text is what the others leave at the front of `text`.

    `raws` are the bytes of those tokens. A character that several tokens make belongs to the last of them.
    """
    whole = text.encode()
    first = whole[: max(0, len(whole) - sum(map(len, raws)))]
    parts = laid_over(text, texts_of([first, *raws]))[1:]
    return tuple(
        TokenScore(TokenChance(part, raw, prob.logprob), tuple(chance_of(other) for other in prob.top_logprobs[:top]))
        for part, raw, prob in zip(parts, raws, probs, strict=True)
    )


def own_bytes(probs: Sequence[TokenProb], told_alone: Sequence[bool]) -> list[bytes]:
    """The engine tells a finished character's bytes with the token that finished it; here each token has its own."""
    raws: list[bytes] = []
    held = b""
    for prob, alone in zip(probs, told_alone, strict=True):
        raw = bytes(prob.bytes)
        raws.append(raw if alone else raw.removeprefix(held))
        held = held + raw if alone else b""
    return raws


def texts_of(raws: Sequence[bytes]) -> list[str]:
    decoder = getincrementaldecoder("utf-8")("replace")
    return [decoder.decode(raw, final=place == len(raws)) for place, raw in enumerate(raws, 1)]


def laid_over(text: str, parts: Sequence[str]) -> list[str]:
    """The parts; what the tokenizer lost of the text is given to the part behind it."""
    if "".join(parts) == text:
        return list(parts)
    laid: list[str] = []
    place = 0
    for part in parts:
        found = text.find(part, place, place + len(part) + SLACK) if part else -1
        end = place if found < 0 else found + len(part)
        laid.append(text[place:end])
        place = end
    return [*laid[:-1], laid[-1] + text[place:]]
