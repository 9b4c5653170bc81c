"""Errors as Ollama's clients read them."""

from __future__ import annotations

import orjson

from atrium.core.errors import AtriumError


def error_body(error: AtriumError) -> bytes:
    return orjson.dumps({"error": error.sentence})
