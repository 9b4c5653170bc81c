"""The error envelope: all four members, always; `param` and `code` are strings or null."""

from __future__ import annotations

import orjson

from atrium.core.errors import AtriumError


def error_object(error: AtriumError) -> dict[str, str | None]:
    return {"message": error.sentence, "type": f"{error.kind}_error", "param": error.param, "code": error.code}


def error_body(error: AtriumError) -> bytes:
    return orjson.dumps({"error": error_object(error)})


def error_event(error: AtriumError) -> bytes:
    """The last event of a stream that broke; no `[DONE]` follows."""
    return b"data: " + error_body(error) + b"\n\n"
