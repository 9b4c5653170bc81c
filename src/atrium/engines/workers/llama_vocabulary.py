"""A GGUF file's vocabulary alone, through llama.cpp's C interface: no weights are read.

The interface is that of the pinned engine: `llama.h` of the library inside `xllamacpp`. `open_vocabulary` refuses a
library whose defaults do not lie where this page expects them.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

LONGEST_PIECE = 4096
"""Bytes of a token's text that are room for; a longer one is asked for again."""
MOST_TEXT = 2**31 - 64
"""Bytes that the interface can count."""
PLAIN = (False, False)
"""No start and end tokens, and no control token in the text."""
NAMED = True
"""Control tokens are given by their names."""
QUIET = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
"""What the library wants to log; it lives as long as the process, as the library keeps it."""


class ModelParameters(ctypes.Structure):
    """`struct llama_model_params`, passed by value; what follows the switches is taken over as it is."""

    _fields_ = (
        ("devices", ctypes.c_void_p),
        ("tensor_buft_overrides", ctypes.c_void_p),
        ("n_gpu_layers", ctypes.c_int32),
        ("split_mode", ctypes.c_int),
        ("load_mode", ctypes.c_int),
        ("lazy_mode", ctypes.c_int),
        ("main_gpu", ctypes.c_int32),
        ("tensor_split", ctypes.c_void_p),
        ("progress_callback", ctypes.c_void_p),
        ("progress_callback_user_data", ctypes.c_void_p),
        ("kv_overrides", ctypes.c_void_p),
        ("vocab_only", ctypes.c_bool),
        ("check_tensors", ctypes.c_bool),
        ("use_extra_bufts", ctypes.c_bool),
        ("rest", ctypes.c_ubyte * 181),
    )


@dataclass(frozen=True, slots=True)
class LlamaVocabulary:
    """Calls may come from several threads: a vocabulary is never written to."""

    library: Any
    vocabulary: int
    pieces: tuple[bytes, ...]
    """Text of each token, control tokens by their names."""

    def tokens(self, raw: bytes) -> list[int]:
        """Of UTF-8 text in which nothing is a control token; no start or end token is added."""
        if len(raw) > MOST_TEXT:
            raise ValueError("the text is too long")
        room = len(raw) + 16
        found = (ctypes.c_int32 * room)()
        count = self.library.llama_tokenize(self.vocabulary, raw, len(raw), found, room, *PLAIN)
        if count < 0:
            raise ValueError("the text has more tokens than bytes")
        return found[:count]


def open_vocabulary(path: str) -> LlamaVocabulary:
    """Raises ValueError for a file or a library that cannot be used."""
    library = load_library()
    parameters: ModelParameters = library.llama_model_default_params()
    if (parameters.vocab_only, parameters.check_tensors, parameters.use_extra_bufts) != (False, False, True):
        raise ValueError("the engine's library is not the one that this Atrium knows")
    parameters.vocab_only = True
    model: int | None = library.llama_model_load_from_file(path.encode(), parameters)
    if not model:
        raise ValueError("the model's file cannot be read")
    vocabulary: int = library.llama_model_get_vocab(model)
    size: int = library.llama_vocab_n_tokens(vocabulary)
    text_of = partial(piece_of, library, vocabulary)
    return LlamaVocabulary(library, vocabulary, tuple(map(text_of, range(size))))


def load_library() -> Any:
    library = ctypes.CDLL(import_module("xllamacpp.xllamacpp").__file__)
    library.llama_model_default_params.restype = ModelParameters
    library.llama_model_load_from_file.argtypes = [ctypes.c_char_p, ModelParameters]
    library.llama_model_load_from_file.restype = ctypes.c_void_p
    library.llama_model_get_vocab.argtypes = [ctypes.c_void_p]
    library.llama_model_get_vocab.restype = ctypes.c_void_p
    library.llama_vocab_n_tokens.argtypes = [ctypes.c_void_p]
    numbers = ctypes.POINTER(ctypes.c_int32)
    flag, number = ctypes.c_bool, ctypes.c_int32
    library.llama_tokenize.argtypes = [ctypes.c_void_p, ctypes.c_char_p, number, numbers, number, flag, flag]
    library.llama_token_to_piece.argtypes = [ctypes.c_void_p, number, ctypes.c_char_p, number, number, flag]
    library.llama_log_set(QUIET, None)
    return library


def piece_of(library: Any, vocabulary: int, token: int) -> bytes:
    room = LONGEST_PIECE
    while True:
        text = ctypes.create_string_buffer(room)
        size: int = library.llama_token_to_piece(vocabulary, token, text, room, 0, NAMED)
        if size >= 0:
            return text.raw[:size]
        room = -size
