"""What `/lollms/v1` answers. `exact` stands in an answer only where another model's tokenizer stood in."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

ESTIMATED = {"exact": False}


def tokens_body(ids: Sequence[int], *, exact: bool) -> bytes:
    return orjson.dumps({"tokens": ids, "count": len(ids), **({} if exact else ESTIMATED)})


def count_body(count: int, *, exact: bool) -> bytes:
    return orjson.dumps({"count": count, **({} if exact else ESTIMATED)})


def text_body(text: str, *, exact: bool) -> bytes:
    return orjson.dumps({"text": text, **({} if exact else ESTIMATED)})


def window_body(tokens: int) -> bytes:
    return orjson.dumps({"context_size": tokens})
