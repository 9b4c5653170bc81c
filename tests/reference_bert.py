"""The reference for sentence embeddings: BERT's forward pass in float32, mean pooling, unit length.

Source: the architecture as Devlin et al. (2018) describe it, with the weights' own names.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file  # pyright: ignore[reportUnknownVariableType] - its dict is not typed
from tokenizers import Tokenizer

Array = NDArray[np.float32]
LAYERS = 6
HEADS = 12
EPSILON = 1e-12


class ReferenceBert:
    def __init__(self, folder: Path) -> None:
        self._weights: dict[str, NDArray[Any]] = load_file(folder / "model.safetensors")
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def ids(self, text: str) -> list[int]:
        return self._tokenizer.encode(text).ids

    def embed(self, text: str) -> Array:
        ids = self.ids(text)
        words = self._get("embeddings.word_embeddings.weight")[ids]
        places = self._get("embeddings.position_embeddings.weight")[: len(ids)]
        kinds = self._get("embeddings.token_type_embeddings.weight")[0]
        hidden = self._norm(words + places + kinds, "embeddings.LayerNorm")
        for layer in range(LAYERS):
            hidden = self._layer(hidden, f"encoder.layer.{layer}")
        mean = hidden.mean(axis=0)
        return mean / np.linalg.norm(mean)

    def _layer(self, hidden: Array, name: str) -> Array:
        own = f"{name}.attention"
        query, key, value = (self._heads(self._linear(hidden, f"{own}.self.{k}")) for k in ("query", "key", "value"))
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(query.shape[-1])
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        seen = (weights / weights.sum(axis=-1, keepdims=True)) @ value
        joined = seen.transpose(1, 0, 2).reshape(hidden.shape)
        hidden = self._norm(hidden + self._linear(joined, f"{own}.output.dense"), f"{own}.output.LayerNorm")
        inner = gelu(self._linear(hidden, f"{name}.intermediate.dense"))
        return self._norm(hidden + self._linear(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")

    def _heads(self, rows: Array) -> Array:
        return rows.reshape(rows.shape[0], HEADS, -1).transpose(1, 0, 2)

    def _linear(self, rows: Array, name: str) -> Array:
        return rows @ self._get(f"{name}.weight").T + self._get(f"{name}.bias")

    def _norm(self, rows: Array, name: str) -> Array:
        centred = rows - rows.mean(axis=-1, keepdims=True)
        spread = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + EPSILON)
        return centred / spread * self._get(f"{name}.weight") + self._get(f"{name}.bias")

    def _get(self, name: str) -> Array:
        return self._weights.get(name, self._weights.get(f"bert.{name}", np.zeros(0))).astype(np.float32)


def gelu(rows: Array) -> Array:
    """With the error function itself, not its approximation by tanh."""
    erf = np.vectorize(math.erf, otypes=[np.float32])
    return (rows * 0.5 * (1 + erf(rows / math.sqrt(2)))).astype(np.float32)
