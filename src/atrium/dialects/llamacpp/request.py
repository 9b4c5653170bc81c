"""Requests to a runner's routes, as bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from atrium.core.errors import InvalidValue
from atrium.core.requests import Sampling
from atrium.dialects.llamacpp.template import Piece

UINT32 = 2**32


def detokenize_body(ids: Sequence[int]) -> bytes:
    """`POST /detokenize`."""
    return orjson.dumps({"tokens": list(ids)})


@dataclass(frozen=True, slots=True)
class Shaping:
    grammar: str = ""
    """Empty for free text."""
    marks: tuple[str, ...] = ()
    """Control tokens that show as text."""


def tokenize_body(pieces: Sequence[Piece] | str, *, special: bool = False) -> bytes:
    """`POST /tokenize`: text never becomes a control token; `special` adds the model's start and end tokens."""
    content = pieces if isinstance(pieces, str) else list(pieces)
    return orjson.dumps({"content": content, "add_special": special, "parse_special": False})


def completion_body(
    prompt: Sequence[int] | Mapping[str, object],
    sampling: Sampling,
    *,
    max_tokens: int,
    seed: int | None,
    shaping: Shaping,
    top_logprobs: int | None = None,
) -> bytes:
    """`POST /completion`, always streamed; the prompt as token ids, or with pictures as `picture_prompt` makes it.

    Stop strings stay here, since the engine loses what it held back when it ends for another reason. Absent sampling
    fields are left to the model's defaults.
    """
    body: dict[str, object] = {
        "prompt": prompt if isinstance(prompt, Mapping) else list(prompt),
        "stream": True,
        "n_predict": max_tokens,
        "cache_prompt": True,
        "return_tokens": True,
    }
    named: Mapping[str, float | int | None] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "typical_p": sampling.typical_p,
        "repeat_penalty": sampling.repeat_penalty,
        "repeat_last_n": sampling.repeat_last_n,
        "frequency_penalty": sampling.frequency_penalty,
        "presence_penalty": sampling.presence_penalty,
    }
    body |= {name: value for name, value in named.items() if value is not None}
    if seed is not None:
        body["seed"] = seed % UINT32
    if sampling.logit_bias:
        body["logit_bias"] = [[token, bias] for token, bias in sampling.logit_bias.items()]
    if sampling.ignore_eos:
        body["ignore_eos"] = True
    if shaping.grammar:
        body["grammar"] = shaping.grammar
    if shaping.marks:
        body["preserved_tokens"] = list(shaping.marks)
    if top_logprobs is not None:
        # 0 would give no probabilities at all, the chosen token's own included.
        body["n_probs"] = max(1, top_logprobs)
    return orjson.dumps(body)


def embedding_body(inputs: Sequence[str] | Sequence[Sequence[int]]) -> bytes:
    """`POST /v1/embeddings`. Token ids are taken as they are; to a text the engine adds the start and end tokens.

    Vectors are asked for as base64: printed as decimals they cost more to write and read than to send.
    """
    given = [one if isinstance(one, str) else list(one) for one in inputs]
    return orjson.dumps({"input": given, "encoding_format": "base64"})


def check_bias(sampling: Sampling, vocabulary: int) -> None:
    """Raises InvalidValue for a token id that the model does not have."""
    for token in sampling.logit_bias:
        if token >= vocabulary:
            raise InvalidValue(f"'logit_bias' names token {token}; the model has {vocabulary}", param="logit_bias")
