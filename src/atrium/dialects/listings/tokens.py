"""Tokenizers and windows of endpoints, as each kind of server speaks of them. A malformed window is not told."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, cast

import orjson

from atrium.core.endpoints import Offered
from atrium.core.errors import BadResponse

Json = dict[str, Any]
BY_PROMPT = frozenset({"vllm", "sglang", "vllm-mlx"})
TOKENIZES = BY_PROMPT | {"llamacpp", "atrium"}
"""Kinds of endpoints that have a tokenizer to ask."""
NUM_CTX = re.compile(r"^\s*num_ctx\s+(\d{1,9})\s*$", re.MULTILINE)


def tokenize_path(kind: str) -> str:
    return "/lollms/v1/tokenize" if kind == "atrium" else "/tokenize"


def detokenize_path(kind: str) -> str:
    return "/lollms/v1/detokenize" if kind == "atrium" else "/detokenize"


def tokenize_body(kind: str, model: str, text: str) -> bytes:
    if kind == "llamacpp":
        return orjson.dumps({"content": text, "add_special": False, "parse_special": False})
    if kind == "atrium":
        return orjson.dumps({"model": model, "text": text})
    return orjson.dumps({"model": model, "prompt": text, "add_special_tokens": False})


def detokenize_body(model: str, ids: Sequence[int]) -> bytes:
    return orjson.dumps({"model": model, "tokens": list(ids)})


def read_tokens(body: bytes) -> list[int]:
    """Raises BadResponse."""
    ids = read_object(body).get("tokens")
    if not isinstance(ids, list) or not all(type(one) is int for one in cast("list[Any]", ids)):
        raise BadResponse("The endpoint's tokenizer gave no list of token ids")
    return cast("list[int]", ids)


def read_text(kind: str, body: bytes) -> str:
    """Raises BadResponse."""
    text = read_object(body).get("prompt" if kind in BY_PROMPT else "content" if kind == "llamacpp" else "text")
    if not isinstance(text, str):
        raise BadResponse("The endpoint's tokenizer gave no text")
    return text


def read_object(body: bytes) -> Json:
    """Raises BadResponse."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise BadResponse("The endpoint's answer is not JSON") from None
    if not isinstance(answer, dict):
        raise BadResponse("The endpoint's answer is no JSON object")
    return cast("Json", answer)


def listed_window(offered: Offered) -> int:
    """Of a model as its endpoint's list tells it: what it is loaded with, else what it can at most; 0: not told."""
    raw = read_object(offered.raw) if offered.raw else {}
    meta = raw.get("meta")
    given = cast("Json", meta) if isinstance(meta, dict) else {}
    told = (raw.get("loaded_context_length"), given.get("n_ctx"), offered.context, given.get("n_ctx_train"))
    return next((one for one in told if type(one) is int and one > 0), 0)


def shown_window(body: bytes) -> int:
    """Of an Ollama model by `/api/show`: its `num_ctx`, else what its architecture was trained for; 0: not told."""
    shown = read_object(body)
    parameters, info = shown.get("parameters"), shown.get("model_info")
    if isinstance(parameters, str) and (found := NUM_CTX.search(parameters)):
        return int(found[1])
    facts = cast("Json", info) if isinstance(info, dict) else {}
    trained = facts.get(f"{facts.get('general.architecture')}.context_length")
    return trained if type(trained) is int and trained > 0 else 0


def loaded_window(body: bytes, model: str) -> int:
    """Of an Ollama model by `/api/ps`; 0 where it is not loaded, or the endpoint does not tell."""
    running = read_object(body).get("models")
    for one in cast("list[Any]", running) if isinstance(running, list) else ():
        entry = cast("Json", one) if isinstance(one, dict) else {}
        window = entry.get("context_length")
        if model in (entry.get("name"), entry.get("model")) and type(window) is int and window > 0:
            return window
    return 0
