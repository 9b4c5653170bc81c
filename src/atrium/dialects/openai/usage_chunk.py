"""Having an endpoint count a stream's tokens for us, unseen by a client that did not ask for it.

OpenAI's `stream_options.include_usage` adds one chunk without choices before `[DONE]`.
"""

from __future__ import annotations

import re
from typing import Any, cast

import orjson

from atrium.dialects.peek import top_level

OPTIONS = "stream_options"
EXTRA = re.compile(rb'"choices"\s*:\s*\[\s*\]')
COUNTED = re.compile(rb'"usage"\s*:\s*\{')
END = re.compile(rb"\r?\n\r?\n")
LONGEST_EVENT = 1 << 20
"""Bytes of an event that has no end yet; a longer one is no usage chunk and passes."""
BOUNDS = ("max_completion_tokens", "max_tokens", "max_output_tokens")


def ask_for_usage(body: bytes) -> bytes | None:
    """The same request, asking for the usage chunk; None where it asks already. Raises InvalidJson when too deep."""
    for key, start, end in top_level(body):
        if key == OPTIONS:
            given = orjson.loads(body[start:end])
            options = cast("dict[str, Any]", given) if isinstance(given, dict) else {}
            if options.get("include_usage") is True:
                return None
            return body[:start] + orjson.dumps({**options, "include_usage": True}) + body[end:]
    head, brace, rest = body.partition(b"{")
    comma = b"" if rest.lstrip().startswith(b"}") else b","
    return head + brace + b'"stream_options":{"include_usage":true}' + comma + rest


def answer_bound(body: bytes) -> int | None:
    """Tokens that the answer may have by the request's own word, in OpenAI's or Ollama's fields, for all choices."""
    try:
        found: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(found, dict):
        return None
    given = cast("dict[str, Any]", found)
    options = given.get("options")
    bounds = [given.get(name) for name in BOUNDS]
    bounds.append(cast("dict[str, Any]", options).get("num_predict") if isinstance(options, dict) else None)
    limit = next((one for one in bounds if isinstance(one, int) and one >= 0), None)
    choices = given.get("n")
    return None if limit is None else limit * (choices if isinstance(choices, int) and choices > 0 else 1)


class UsageTaker:
    """Fed a stream's bytes, gives them back without the usage chunk."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What can be passed on: whole events."""
        held = self._held + data
        passed: list[bytes] = []
        start = 0
        for end in END.finditer(held):
            event = held[start : end.end()]
            start = end.end()
            if not is_extra(event):
                passed.append(event)
        self._held = held[start:]
        if len(self._held) > LONGEST_EVENT:
            passed.append(self._held)
            self._held = b""
        return b"".join(passed)

    def rest(self) -> bytes:
        """What is left at the end."""
        held, self._held = self._held, b""
        return held


def is_extra(event: bytes) -> bool:
    return event.startswith(b"data:") and EXTRA.search(event) is not None and COUNTED.search(event) is not None
