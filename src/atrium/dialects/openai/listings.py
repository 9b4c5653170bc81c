"""Models and embeddings as OpenAI's clients read them."""

from __future__ import annotations

import base64
from array import array
from collections.abc import Sequence

import orjson

from atrium.core.answers import Vectors
from atrium.core.models import NamedModel


def model_object(model: NamedModel) -> dict[str, object]:
    return {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": model.owner,
        "name": model.name,
    }


def models_body(models: Sequence[NamedModel]) -> bytes:
    return orjson.dumps({"object": "list", "data": [model_object(model) for model in models]})


def model_body(model: NamedModel) -> bytes:
    return orjson.dumps(model_object(model))


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
