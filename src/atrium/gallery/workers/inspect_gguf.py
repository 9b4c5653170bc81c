"""`python -m atrium.gallery.workers.inspect_gguf FILE`: what a GGUF file says of itself, as JSON on stdout."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from typing import Any, cast

import msgspec
from gguf import GGUFReader

from atrium.core.models import Dimensions, ModelFacts, Vocabulary

CONTROL = 3
ROOM = 4 * 1024**3
"""Bytes of address space besides the file itself."""
CPU_SECONDS = 120


class Inspected(msgspec.Struct):
    architecture: str
    pooling: int
    """llama.cpp's number: 0 none, 1 mean, 2 first token, 3 last token, 4 rank."""
    causal: bool
    facts: ModelFacts


class Fields:
    def __init__(self, reader: GGUFReader) -> None:
        self._reader = reader
        self.architecture = str(self.get("general.architecture", ""))
        if not self.architecture:
            raise ValueError("it names no architecture")

    def get(self, name: str, default: Any) -> Any:
        field = self._reader.get_field(name)
        return default if field is None else field.contents()

    def own(self, name: str, default: Any) -> Any:
        """A field of the architecture, `llama.block_count` and the like."""
        return self.get(f"{self.architecture}.{name}", default)

    def number(self, name: str, default: int = 0) -> int:
        """Some models give one number per layer; the largest is what memory is needed for."""
        value = self.own(name, default)
        return max(cast("list[int]", value)) if isinstance(value, list) else int(value)


def inspect(path: Path) -> Inspected:
    """Raises ValueError and whatever the reader raises on a file that lies."""
    reader = GGUFReader(path)
    size = path.stat().st_size
    for tensor in reader.tensors:
        if tensor.data_offset + tensor.n_bytes > size:
            raise ValueError(f"its tensor {tensor.name} lies beyond its end")
    if not reader.tensors:
        raise ValueError("it has no tensors")
    fields = Fields(reader)
    facts = ModelFacts(
        vocabulary=vocabulary_of(fields),
        dimensions=dimensions_of(fields, sum(int(tensor.n_bytes) for tensor in reader.tensors)),
        chat_template=str(fields.get("tokenizer.chat_template", "")),
    )
    pooling = fields.number("pooling_type", 0)
    return Inspected(fields.architecture, pooling, bool(fields.own("attention.causal", 1)), facts)


def vocabulary_of(fields: Fields) -> Vocabulary:
    tokens: list[str] = fields.get("tokenizer.ggml.tokens", [])
    kinds: list[int] = fields.get("tokenizer.ggml.token_type", [])
    control = {token: index for index, (token, kind) in enumerate(zip(tokens, kinds, strict=False)) if kind == CONTROL}
    bert = fields.get("tokenizer.ggml.model", "") == "bert"
    bos = fields.get("tokenizer.ggml.bos_token_id", fields.get("tokenizer.ggml.cls_token_id", None))
    eos = fields.get("tokenizer.ggml.eos_token_id", None)
    if bert:
        eos = fields.get("tokenizer.ggml.seperator_token_id", eos)
    return Vocabulary(
        size=len(tokens),
        control=control,
        bos=None if bos is None else int(bos),
        eos=None if eos is None else int(eos),
        add_bos=bool(fields.get("tokenizer.ggml.add_bos_token", bert)),
        add_eos=bool(fields.get("tokenizer.ggml.add_eos_token", bert)),
    )


def dimensions_of(fields: Fields, tensor_bytes: int) -> Dimensions:
    heads = fields.number("attention.head_count", 1) or 1
    length = fields.number("embedding_length")
    per_head = length // heads
    return Dimensions(
        trained_context=fields.number("context_length", 512),
        layers=fields.number("block_count"),
        kv_heads=fields.number("attention.head_count_kv", heads) or heads,
        key_length=fields.number("attention.key_length", per_head),
        value_length=fields.number("attention.value_length", per_head),
        embedding_length=length,
        tensor_bytes=tensor_bytes,
    )


def main() -> int:
    path = Path(sys.argv[1])
    room = path.stat().st_size + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    try:
        found = inspect(path)
    except Exception as error:  # noqa: BLE001 - the process's root: a file that lies may fail in any way
        sys.stderr.write(f"{type(error).__name__}: {error}"[:1000])
        return 1
    os.write(sys.stdout.fileno(), msgspec.json.encode(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
