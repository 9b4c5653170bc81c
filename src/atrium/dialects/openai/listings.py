"""Models and embeddings as OpenAI's clients read them."""

from __future__ import annotations

import base64
from array import array
from collections.abc import Sequence

import orjson

from atrium.core.answers import Vectors
from atrium.core.models import ModelCard


def model_object(card: ModelCard) -> dict[str, object]:
    return {"id": card.name, "object": "model", "created": card.created, "owned_by": "atrium", "name": card.name}


def models_body(cards: Sequence[ModelCard]) -> bytes:
    return orjson.dumps({"object": "list", "data": [model_object(card) for card in cards]})


def model_body(card: ModelCard) -> bytes:
    return orjson.dumps(model_object(card))


def embeddings_body(vectors: Vectors, *, as_base64: bool) -> bytes:
    """Numbers, or little-endian float32 in padded base64."""
    data = [
        {"object": "embedding", "index": index, "embedding": _base64(raw) if as_base64 else _numbers(raw)}
        for index, raw in enumerate(vectors.vectors)
    ]
    tokens = vectors.usage.prompt_tokens
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return orjson.dumps({"object": "list", "data": data, "model": vectors.model, "usage": usage})


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def _numbers(raw: bytes) -> list[float]:
    return array("f", raw).tolist()
