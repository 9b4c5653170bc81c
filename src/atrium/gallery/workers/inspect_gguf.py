"""`python -m atrium.gallery.workers.inspect_gguf PART…`: what a GGUF file says of itself, as JSON on stdout.

A file that was split is named part by part, in order.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, cast

import msgspec
import numpy as np
import numpy.typing as npt
from gguf import GGUFReader, LlamaFileType, ReaderTensor

from atrium.core.models import Dimensions, ModelFacts, Vocabulary
from atrium.core.requests import Sampling
from atrium.gallery.inspected import Inspected

CONTROL = 3
ROOM = 4 * 1024**3
"""Bytes of address space besides the file itself."""
CPU_SECONDS = 120
LONGEST_TEXT = 1000
MOST_ENTRIES = 500
PROJECTOR = "clip"
OTHERS = ("adapter", "imatrix", "dataset")
"""`general.type` of GGUF files that are no models."""
FAMILY = "general.architecture"


class Fields:
    def __init__(self, reader: GGUFReader) -> None:
        self._reader = reader
        self.architecture = str(self.get(FAMILY, ""))
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

    def recommended(self, name: str) -> Any:
        """A field of `general.sampling`, None where there is none."""
        return self.get(f"general.sampling.{name}", None)

    def plain(self) -> dict[str, str | int | float | bool]:
        """Entries that are neither lists nor long."""
        found: dict[str, str | int | float | bool] = {}
        for name in self._reader.fields:
            if name.startswith("GGUF.") or "chat_template" in name or len(found) >= MOST_ENTRIES:
                continue
            value = self.get(name, None)
            if isinstance(value, str | int | float) and len(str(value)) <= LONGEST_TEXT:
                found[name] = value
        return found


def inspect(paths: list[Path]) -> Inspected:
    """Raises ValueError and whatever the reader raises on a file that lies."""
    readers = [whole(path) for path in paths]
    tensors = [tensor for reader in readers for tensor in reader.tensors]
    if not tensors:
        raise ValueError("it has no tensors")
    fields = Fields(readers[0])
    parts = int(fields.get("split.count", 1) or 1)
    if parts != len(paths):
        raise ValueError(f"it is one of {parts} parts, and {len(paths)} are here")
    facts = ModelFacts(
        vocabulary=vocabulary_of(fields),
        dimensions=dimensions_of(fields, sum(int(tensor.n_bytes) for tensor in tensors)),
        chat_template=str(fields.get("tokenizer.chat_template", "")),
        sampling=sampling_of(fields),
        architecture=fields.architecture,
        parameters=sum(int(tensor.n_elements) for tensor in tensors),
        quantization=quantization_of(fields),
        metadata=fields.plain(),
    )
    name = str(fields.get("general.name", ""))[:LONGEST_TEXT]
    causal = bool(fields.own("attention.causal", 1))
    if fields.architecture == PROJECTOR:
        sees = bool(fields.get("clip.has_vision_encoder", False))
        hears = bool(fields.get("clip.has_audio_encoder", False))
        return Inspected("projector", name, 0, causal, facts, sees, hears, widths_of(tensors))
    kind = "other" if fields.get("general.type", "model") in OTHERS else "model"
    return Inspected(kind, name, fields.number("pooling_type", 0), causal, facts)


class BoundedReader(GGUFReader):
    """Ends where the file does: the library would read nothing as often as an array claims to have entries.

    It also does without the library's views of views, which take a vocabulary several times as long.
    """

    def _get(
        self,
        offset: int,
        dtype: npt.DTypeLike,
        count: int = 1,
        override_order: Literal["I", "S", "<"] | None = None,
    ) -> npt.NDArray[Any]:
        count, order = int(count), override_order or self.byte_order
        kind = np.dtype(dtype) if order == "I" else np.dtype(dtype).newbyteorder(order)
        if offset + kind.itemsize * count > self.data.size:
            raise ValueError("it ends before what it announces")
        return np.frombuffer(self.data, kind, count, offset)


def whole(path: Path) -> GGUFReader:
    """Raises ValueError where a tensor would lie beyond the file's end."""
    reader = BoundedReader(path)
    size = path.stat().st_size
    for tensor in reader.tensors:
        if tensor.data_offset + tensor.n_bytes > size:
            raise ValueError(f"its tensor {tensor.name} lies beyond its end")
    return reader


def widths_of(tensors: Iterable[ReaderTensor]) -> tuple[int, ...]:
    """Every length that a tensor has outside of the encoders' own layers: what it hands out is among them."""
    lengths = {int(n) for t in tensors if not t.name.startswith(("v.blk.", "a.blk.")) for n in t.shape}
    return tuple(sorted(lengths))


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
        trained_context=fields.number("context_length", 0),
        layers=fields.number("block_count"),
        kv_heads=fields.number("attention.head_count_kv", heads) or heads,
        key_length=fields.number("attention.key_length", per_head),
        value_length=fields.number("attention.value_length", per_head),
        embedding_length=length,
        tensor_bytes=tensor_bytes,
    )


def sampling_of(fields: Fields) -> Sampling:
    """The names are those of llama.cpp's converter."""
    top_k = fields.recommended("top_k")
    return Sampling(
        temperature=fields.recommended("temp"),
        top_p=fields.recommended("top_p"),
        top_k=None if top_k is None else int(top_k),
        min_p=fields.recommended("min_p"),
        repeat_penalty=fields.recommended("penalty_repeat"),
    )


def quantization_of(fields: Fields) -> str:
    number = fields.get("general.file_type", None)
    try:
        return "" if number is None else LlamaFileType(int(number)).name.removeprefix("MOSTLY_").removeprefix("ALL_")
    except ValueError:
        return ""


def main() -> int:
    paths = [Path(word) for word in sys.argv[1:]]
    room = sum(path.stat().st_size for path in paths) + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    try:
        found = inspect(paths)
    except Exception as error:  # noqa: BLE001 - the process's root: a file that lies may fail in any way
        sys.stderr.write(f"{type(error).__name__}: {error}"[:1000].replace("\n", " "))
        return 1
    os.write(sys.stdout.fileno(), msgspec.json.encode(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
