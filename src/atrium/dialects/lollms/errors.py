"""Errors as LoLLMs' clients read them: OpenAI's envelope, and the message once more as `detail`."""

from __future__ import annotations

import orjson

from atrium.core.errors import AtriumError, RateLimited
from atrium.dialects.openai.errors import error_object


def error_body(error: AtriumError) -> bytes:
    told = error_object(error)
    if isinstance(error, RateLimited):
        told["type"] = RateLimited.code
    return orjson.dumps({"error": told, "detail": error.sentence})


def error_event(error: AtriumError) -> bytes:
    """The last event of a stream that broke; no `[DONE]` follows."""
    return b"data: " + error_body(error) + b"\n\n"
