"""Asking an endpoint for one whole answer in the dialect that it speaks, for work of the server's own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, cast

import orjson

from atrium.core.answers import Usage
from atrium.core.errors import BadResponse
from atrium.core.long_text import Written
from atrium.core.requests import Message
from atrium.dialects.listings.tokens import read_object

Json = dict[str, Any]
TOO_LONG = re.compile(r"context|too (long|large)|maximum.*(token|length)|exceed", re.IGNORECASE)
OPENAI_PATH, OLLAMA_PATH = "/v1/chat/completions", "/api/chat"


def openai_body(model: str, messages: Sequence[Message], max_tokens: int, temperature: float | None) -> bytes:
    told = [{"role": message.role.value, "content": message.text} for message in messages]
    body: Json = {"model": model, "messages": told, "max_tokens": max_tokens, "stream": False}
    return orjson.dumps(body if temperature is None else body | {"temperature": temperature})


def ollama_body(model: str, messages: Sequence[Message], max_tokens: int, temperature: float | None) -> bytes:
    told = [{"role": message.role.value, "content": message.text} for message in messages]
    options: Json = {"num_predict": max_tokens}
    if temperature is not None:
        options["temperature"] = temperature
    return orjson.dumps({"model": model, "messages": told, "stream": False, "options": options})


def read_openai(body: bytes) -> Written:
    """Raises BadResponse."""
    answer = read_object(body)
    choices = answer.get("choices")
    first = cast("list[Any]", choices)[0] if isinstance(choices, list) and choices else None
    usage = answer.get("usage")
    told = cast("Json", usage) if isinstance(usage, dict) else {}
    message = cast("Json", first).get("message") if isinstance(first, dict) else None
    return Written(content_of(message), Usage(number(told, "prompt_tokens"), number(told, "completion_tokens")))


def read_ollama(body: bytes) -> Written:
    """Raises BadResponse."""
    answer = read_object(body)
    usage = Usage(number(answer, "prompt_eval_count"), number(answer, "eval_count"))
    return Written(content_of(answer.get("message")), usage)


def content_of(message: object) -> str:
    content = cast("Json", message).get("content") if isinstance(message, dict) else None
    if not isinstance(content, str):
        raise BadResponse("The endpoint's answer has no message in it")
    return content


def number(told: Json, name: str) -> int:
    value = told.get(name)
    return value if type(value) is int and value >= 0 else 0
