"""Tiny models with random weights, whole enough for the engine to load: a llama, and a projector it can see through."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

WIDTH = 64
WORDS = ("<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>")
CONTROL = gguf.TokenType.CONTROL
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)


def write_llama(
    path: Path,
    *,
    template: str = TEMPLATE,
    context: int | None = 512,
    temperature: float | None = None,
    parts: int = 1,
    seed: int = 7,
) -> Path:
    """A model of one layer over bytes and letters; split into `parts` files if more than one."""
    writer = gguf.GGUFWriter(path, "llama", split_max_tensors=-(-12 // parts) if parts > 1 else 0)
    writer.add_name("Tiny")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_block_count(1)
    if context is not None:
        writer.add_context_length(context)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(2 * WIDTH)
    writer.add_head_count(4)
    writer.add_head_count_kv(4)
    writer.add_rope_dimension_count(WIDTH // 4)
    writer.add_layer_norm_rms_eps(1e-5)
    if temperature is not None:
        writer.add_float32("general.sampling.temp", temperature)
    size = add_vocabulary(writer)
    if template:
        writer.add_chat_template(template)
    rng = np.random.default_rng(seed)

    def add(name: str, *shape: int) -> None:
        writer.add_tensor(name, (rng.standard_normal(shape) / WIDTH**0.5).astype(np.float32))

    add("token_embd.weight", size, WIDTH)
    add("output.weight", size, WIDTH)
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(WIDTH, dtype=np.float32))
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        add(f"blk.0.{name}.weight", WIDTH, WIDTH)
    add("blk.0.ffn_gate.weight", 2 * WIDTH, WIDTH)
    add("blk.0.ffn_up.weight", 2 * WIDTH, WIDTH)
    add("blk.0.ffn_down.weight", WIDTH, 2 * WIDTH)
    finish(writer)
    return path


def add_vocabulary(writer: gguf.GGUFWriter) -> int:
    """Control tokens, all bytes, and the printable characters; its size."""
    letters = ["▁", *(chr(code) for code in range(33, 127))]
    tokens = [*WORDS, *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    kinds = [
        *(gguf.TokenType.UNKNOWN, *[CONTROL] * (len(WORDS) - 1)),
        *([gguf.TokenType.BYTE] * 256),
        *([gguf.TokenType.NORMAL] * len(letters)),
    ]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(4)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(value=True)
    return len(tokens)


def write_projector(path: Path, *, width: int = WIDTH) -> Path:
    """A vision encoder of one layer over pictures of 32 by 32 points, in LLaVA's form."""
    inner, patch, side, layers = 48, 8, 32, 1
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_type("mmproj")
    writer.add_bool("clip.has_vision_encoder", val=True)
    writer.add_string("clip.projector_type", "mlp")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    for name, number in {
        "image_size": side,
        "patch_size": patch,
        "embedding_length": inner,
        "feed_forward_length": 2 * inner,
        "projection_dim": width,
        "block_count": layers,
        "attention.head_count": 2,
    }.items():
        writer.add_uint32(f"clip.vision.{name}", number)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    writer.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
    writer.add_array("clip.vision.image_std", [0.5, 0.5, 0.5])
    writer.add_bool("clip.use_gelu", val=True)
    rng = np.random.default_rng(3)

    def add(name: str, *shape: int) -> None:
        writer.add_tensor(name, (rng.standard_normal(shape) / inner**0.5).astype(np.float32))

    add("v.class_embd", inner)
    add("v.patch_embd.weight", inner, 3, patch, patch)
    add("v.position_embd.weight", (side // patch) ** 2 + 1, inner)
    for name in ("v.pre_ln", "v.post_ln", "v.blk.0.ln1", "v.blk.0.ln2"):
        add(f"{name}.weight", inner)
        add(f"{name}.bias", inner)
    for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
        add(f"v.blk.0.{name}.weight", inner, inner)
        add(f"v.blk.0.{name}.bias", inner)
    add("v.blk.0.ffn_down.weight", 2 * inner, inner)
    add("v.blk.0.ffn_down.bias", 2 * inner)
    add("v.blk.0.ffn_up.weight", inner, 2 * inner)
    add("v.blk.0.ffn_up.bias", inner)
    add("mm.0.weight", 2 * inner, inner)
    add("mm.0.bias", 2 * inner)
    add("mm.2.weight", width, 2 * inner)
    add("mm.2.bias", width)
    finish(writer)
    return path


def finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
