"""Model lists as endpoints give them. Unknown members are passed over, a list that is none is refused whole."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, cast

import orjson

from atrium.core.endpoints import Offered
from atrium.core.errors import BadResponse

MOST_MODELS = 20_000
LONGEST_NAME = 500
EMBEDS = re.compile(r"embed|bge-|minilm|e5-", re.IGNORECASE)
Json = dict[str, Any]


def read_models(form: str, body: bytes) -> tuple[Offered, ...]:
    """`form`: `openai`, `ollama` or `lmstudio`. Each name once. Raises BadResponse."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise BadResponse("The endpoint's model list is not JSON") from None
    told = cast("Json", answer) if isinstance(answer, dict) else {}
    entries = told.get("models" if form == "ollama" else "data")
    if not isinstance(entries, list) or len(cast("list[Any]", entries)) > MOST_MODELS:
        raise BadResponse("The endpoint's model list has no models in it")
    found: dict[str, Offered] = {}
    read = read_ollama if form == "ollama" else read_openai
    for entry in cast("list[Any]", entries):
        one = read(cast("Json", entry)) if isinstance(entry, dict) else None
        if one is not None and 0 < len(one.name) <= LONGEST_NAME:
            found.setdefault(one.name, one)
    return tuple(found.values())


def read_ollama(entry: Json) -> Offered | None:
    details = entry.get("details")
    told = cast("Json", details) if isinstance(details, dict) else {}
    families = told.get("families")
    return Offered(
        name=text(entry, "model") or text(entry, "name"),
        created=moment(text(entry, "modified_at")),
        owner="ollama",
        size=number(entry, "size"),
        digest=text(entry, "digest"),
        family=text(told, "family"),
        parameter_size=text(told, "parameter_size"),
        quantization=text(told, "quantization_level"),
        type=type_of(text(entry, "name"), cast("list[Any]", families) if isinstance(families, list) else []),
        raw=orjson.dumps(entry),
    )


def read_openai(entry: Json) -> Offered | None:
    """OpenAI's entries and what LM Studio and vLLM add to them."""
    name = text(entry, "id") or text(entry, "model")
    state = text(entry, "state")
    kind = text(entry, "type")
    return Offered(
        name=name,
        created=number(entry, "created"),
        owner=text(entry, "owned_by") or text(entry, "publisher"),
        size=number(entry, "size"),
        family=text(entry, "arch"),
        quantization=text(entry, "quantization"),
        context=number(entry, "max_context_length") or number(entry, "max_model_len"),
        type=kind if kind in ("llm", "vlm", "embeddings") else type_of(name, []),
        loaded=None if not state else state == "loaded",
        raw=orjson.dumps(entry),
    )


def type_of(name: str, families: list[Any]) -> str:
    if EMBEDS.search(name) or any("bert" in str(family) for family in families):
        return "embeddings"
    return "vlm" if any(str(family) in ("clip", "mllama") for family in families) else "llm"


def text(entry: Json, name: str) -> str:
    value = entry.get(name)
    return value if isinstance(value, str) else ""


def number(entry: Json, name: str) -> int:
    value = entry.get(name)
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else 0


def moment(stamp: str) -> int:
    """Unix seconds of an RFC 3339 time, which may have nanoseconds; 0 when it is none."""
    shortened = re.sub(r"(\.\d{6})\d+", r"\1", stamp)
    try:
        return int(datetime.fromisoformat(shortened).timestamp())
    except (ValueError, OverflowError):
        return 0
