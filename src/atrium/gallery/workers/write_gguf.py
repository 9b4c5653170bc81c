"""`python -m atrium.gallery.workers.write_gguf FOLDER OUT`: a BERT encoder from safetensors to GGUF in q8_0.

Source of the names: the GGUF format's documentation, and what llama.cpp loads for the architecture `bert`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, PoolingType, TokenType
from gguf.quants import quantize
from numpy.typing import NDArray
from safetensors.numpy import load_file  # pyright: ignore[reportUnknownVariableType] - its dict is not typed

LAYER_NAMES = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
EMBEDDING_NAMES = {
    "word_embeddings": "token_embd",
    "position_embeddings": "position_embd",
    "token_type_embeddings": "token_types",
    "LayerNorm": "token_embd_norm",
}
BLOCK = 32
"""Numbers that q8_0 packs together: a row's length must be a multiple."""
SPECIAL = {
    "[CLS]": TokenType.CONTROL,
    "[SEP]": TokenType.CONTROL,
    "[PAD]": TokenType.CONTROL,
    "[MASK]": TokenType.CONTROL,
}
SPECIAL["[UNK]"] = TokenType.UNKNOWN


def renamed(name: str) -> str | None:
    """The GGUF name of a tensor, None for one that embeddings do not need."""
    stem, _, kind = name.removeprefix("bert.").rpartition(".")
    if stem.startswith("embeddings."):
        own = EMBEDDING_NAMES.get(stem.removeprefix("embeddings."))
        return f"{own}.{kind}" if own else None
    if stem.startswith("encoder.layer."):
        number, _, part = stem.removeprefix("encoder.layer.").partition(".")
        return f"blk.{number}.{LAYER_NAMES[part]}.{kind}"
    return None


def tokens(vocabulary: list[str]) -> Iterator[tuple[str, TokenType]]:
    """WordPiece as llama.cpp wants it: a word's beginning is marked instead of its continuation."""
    for token in vocabulary:
        if token.startswith("[unused"):
            yield token, TokenType.UNUSED
        elif token in SPECIAL:
            yield token, SPECIAL[token]
        else:
            yield (token[2:] if token.startswith("##") else "\u2581" + token), TokenType.NORMAL


def write(folder: Path, out: Path) -> None:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
    vocabulary = (folder / "vocab.txt").read_text("utf-8").splitlines()
    writer = GGUFWriter(out, "bert")
    writer.add_file_type(LlamaFileType.MOSTLY_Q8_0)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)  # noqa: FBT003 - the library's own signature
    writer.add_pooling_type(PoolingType.MEAN)
    add_tokenizer(writer, vocabulary, config["type_vocab_size"])
    tensors: dict[str, NDArray[Any]] = load_file(folder / "model.safetensors")
    exact_from = config["num_hidden_layers"] // 2
    for name, tensor in tensors.items():
        if own := renamed(name):
            add_tensor(writer, own, tensor.astype(np.float32), exact_from)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_tokenizer(writer: GGUFWriter, vocabulary: list[str], kinds: int) -> None:
    pairs = list(tokens(vocabulary))
    writer.add_tokenizer_model("bert")
    writer.add_token_list([token for token, _ in pairs])
    writer.add_token_types([kind for _, kind in pairs])
    writer.add_token_type_count(kinds)
    places = {token: index for index, token in enumerate(vocabulary)}
    writer.add_bos_token_id(places["[CLS]"])
    writer.add_eos_token_id(places["[SEP]"])
    writer.add_sep_token_id(places["[SEP]"])
    writer.add_unk_token_id(places["[UNK]"])
    writer.add_pad_token_id(places["[PAD]"])
    writer.add_mask_token_id(places["[MASK]"])


def add_tensor(writer: GGUFWriter, name: str, tensor: NDArray[np.float32], exact_from: int) -> None:
    """Matrices are packed, those of the second half of the layers only to 16 bits: packed as well, single words fell to
    a cosine of 0.998. Norms, biases and rows that are looked up stay as they are."""
    layer = int(name.split(".")[1]) if name.startswith("blk.") else 0
    if tensor.ndim < 2 or tensor.shape[-1] % BLOCK or name.startswith(("position_embd", "token_types")):
        writer.add_tensor(name, tensor)
        return
    if layer >= exact_from:
        writer.add_tensor(name, tensor.astype(np.float16))
        return
    packed = quantize(tensor, GGMLQuantizationType.Q8_0)
    writer.add_tensor(name, packed, raw_dtype=GGMLQuantizationType.Q8_0)


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
