"""Log probabilities and vectors as endpoints of several dialects tell them."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

import msgspec

from atrium.core.answers import Embedded, TokenChance, TokenScore
from atrium.core.errors import BadResponse


class Chance(msgspec.Struct):
    token: str = ""
    logprob: float = 0.0
    bytes: list[int] | None = None


class Score(Chance):
    top_logprobs: list[Chance] | None = None


def scores_of(scores: Sequence[Score] | None) -> tuple[TokenScore, ...]:
    return tuple(
        TokenScore(chance_of(score), tuple(chance_of(other) for other in score.top_logprobs or ()))
        for score in scores or ()
    )


def chance_of(one: Chance) -> TokenChance:
    raw = one.token.encode() if one.bytes is None else bytes(byte & 255 for byte in one.bytes)
    return TokenChance(one.token, raw, one.logprob)


def embedded(vectors: list[array[float]], wanted: int, tokens: int) -> Embedded:
    """Raises BadResponse for what are no finite numbers, or not one vector for each text."""
    if not all(vector and all(map(math.isfinite, vector)) for vector in vectors):
        raise BadResponse("The endpoint's vectors are not all numbers")
    if len(vectors) != wanted:
        raise BadResponse(f"The endpoint gave {len(vectors)} vectors for {wanted} texts")
    return Embedded(vectors, tokens)
