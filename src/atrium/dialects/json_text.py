"""Strict JSON: what a body must be before anyone looks at its fields."""

from __future__ import annotations

import json
from typing import cast

import orjson

from atrium.core.errors import InvalidJson
from atrium.core.requests import JsonValue

COMMAS = 8
"""Where a long text is expected, whose commas are no values, this many times as many are taken."""
MOST_SOUGHT = 64 * 1024 * 1024
"""Bytes to look for keys in, all keys together; beyond that a second parse is quicker, and does not grow with them."""


def parse_object(raw: bytes, *, depth: int, items: int, prose: bool = False) -> dict[str, JsonValue]:
    """The one JSON object that `raw` is.

    `depth` is the deepest nesting allowed, `items` about how many values there may be; both are checked before
    or beside the parse, so that no body is slow or deep enough to hurt. `prose`: most of it is a text.
    Raises InvalidJson.
    """
    if not raw.strip():
        raise InvalidJson("The request has no body", hint="Send one JSON object")
    brackets = raw.count(b"[") + raw.count(b"{")
    if raw.count(b",") // (COMMAS if prose else 1) + brackets > items:
        raise InvalidJson(f"The body holds more than {items} values", hint="Send less in one request")
    try:
        value: JsonValue = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidJson(f"The body is not valid JSON: {error}") from None
    if brackets > depth and not shallower(value, depth):
        raise InvalidJson(f"The body is nested more than {depth} levels deep")
    if not isinstance(value, dict):
        raise InvalidJson("The body is not a JSON object")
    refuse_duplicates(raw, value)
    return value


def shallower(value: JsonValue, depth: int) -> bool:
    """Whether a value has at most `depth` levels; walks level by level, so it cannot overflow the stack."""
    level: list[JsonValue] = [value]
    for _ in range(depth + 1):
        deeper: list[JsonValue] = []
        for one in level:
            if isinstance(one, dict):
                deeper += one.values()
            elif isinstance(one, list):
                deeper += one
        level = [one for one in deeper if isinstance(one, dict | list)]
        if not level:
            return True
    return False


def refuse_duplicates(raw: bytes, value: dict[str, JsonValue]) -> None:
    """Readers differ on which of two equal keys counts, so the request's meaning would depend on who reads it.

    A key that occurs once as text can only be doubled in escaped form; only then is the body parsed a second time.
    """
    few = len(value) * len(raw) <= MOST_SOUGHT
    if few and b"\\u" not in raw and all(raw.count(b'"%b"' % key.encode()) == 1 for key in value):
        return
    pairs = cast("list[tuple[str, object]]", json.loads(raw, object_pairs_hook=list))
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise InvalidJson(f"The body has the field '{key[:64]}' twice", param=key[:64])
        seen.add(key)
