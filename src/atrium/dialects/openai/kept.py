"""Kept completions as OpenAI's clients read them, and how they ask for them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import orjson

from atrium.core.completions import CompletionPage, CompletionQuery, KeptCompletion
from atrium.core.errors import InvalidValue
from atrium.core.requests import JsonValue
from atrium.dialects.fields import Fields
from atrium.dialects.json_text import parse_object
from atrium.dialects.openai.metadata import read_metadata

MOST_LISTED = 100
LISTED = 20
METADATA = re.compile(r"metadata\[(.{1,64})\]")
ECHOED = (
    "tools",
    "tool_choice",
    "response_format",
    "temperature",
    "top_p",
    "seed",
    "frequency_penalty",
    "presence_penalty",
)
"""Fields of the request that the kept answer shows."""


def kept_of(raw: bytes, answer: bytes, owner: int | None, metadata: Mapping[str, str]) -> KeptCompletion:
    """`raw` is the request, parsed and found good before; `answer` the whole answer's object."""
    asked: dict[str, JsonValue] = orjson.loads(raw)
    given: dict[str, JsonValue] = orjson.loads(answer)
    created = given["created"]
    shown = {**given, **{name: asked.get(name) for name in ECHOED}, "input_user": asked.get("user")}
    return KeptCompletion(
        id=str(given["id"]),
        owner=owner,
        created=created if isinstance(created, int) else 0,
        model=str(given["model"]),
        answer=orjson.dumps(shown),
        messages=orjson.dumps(asked["messages"]),
        metadata=metadata,
    )


def kept_object(kept: KeptCompletion) -> dict[str, JsonValue]:
    return {**orjson.loads(kept.answer), "metadata": dict(kept.metadata)}


def kept_body(kept: KeptCompletion) -> bytes:
    return orjson.dumps(kept_object(kept))


def page_body(page: CompletionPage) -> bytes:
    ids = [one.id for one in page.kept]
    return list_body([kept_object(one) for one in page.kept], ids, has_more=page.has_more)


def list_body(data: Sequence[dict[str, JsonValue]], ids: Sequence[str], *, has_more: bool) -> bytes:
    first, last = (ids[0], ids[-1]) if ids else (None, None)
    return orjson.dumps({"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": has_more})


def deleted_body(completion_id: str) -> bytes:
    return orjson.dumps({"object": "chat.completion.deleted", "id": completion_id, "deleted": True})


def messages_body(kept: KeptCompletion, query: CompletionQuery) -> bytes:
    """What was asked, message by message; ids are made of the completion's and the place. Raises InvalidValue."""
    asked: list[dict[str, JsonValue]] = orjson.loads(kept.messages)
    shown = [message_object(f"{kept.id}-{place}", message) for place, message in enumerate(asked)]
    if query.newest_first:
        shown.reverse()
    ids = [str(one["id"]) for one in shown]
    start = place_of(query.after, ids, "after") + 1 if query.after else 0
    end = place_of(query.before, ids, "before") if query.before else len(ids)
    chosen = shown[start:end]
    return list_body(chosen[: query.most], ids[start:end][: query.most], has_more=len(chosen) > query.most)


def place_of(cursor: str, ids: Sequence[str], name: str) -> int:
    if cursor not in ids:
        raise InvalidValue(f"'{name}' is none of this completion's messages", param=name)
    return ids.index(cursor)


def message_object(message_id: str, message: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Text alone stands in `content`; parts stand in `content_parts`."""
    content = message.get("content")
    parts = content if isinstance(content, list) else None
    return {
        **message,
        "id": message_id,
        "content": content if isinstance(content, str) else None,
        "content_parts": parts,
        "name": message.get("name"),
    }


def parse_note(raw: bytes, *, depth: int, items: int) -> Mapping[str, str]:
    """`{"metadata": {…}}`. Raises InvalidJson, InvalidValue."""
    fields = Fields(parse_object(raw, depth=depth, items=items))
    if "metadata" not in fields.values:
        raise InvalidValue("'metadata' is required", param="metadata")
    return read_metadata(fields)


def parse_query(pairs: Sequence[tuple[str, str]]) -> CompletionQuery:
    """Of a list's address: `limit`, `order`, `after`, `before`, `model`, `metadata[key]`. Raises InvalidValue."""
    told = dict(pairs)
    limit = told.get("limit", str(LISTED))
    if not re.fullmatch(r"[0-9]{1,3}", limit) or not 1 <= int(limit) <= MOST_LISTED:
        raise InvalidValue(f"'limit' must be a whole number from 1 to {MOST_LISTED}", param="limit")
    order = told.get("order", "asc")
    if order not in ("asc", "desc"):
        raise InvalidValue("'order' must be 'asc' or 'desc'", param="order")
    noted = {found[1]: value for name, value in pairs if (found := METADATA.fullmatch(name))}
    return CompletionQuery(
        model=told.get("model", ""),
        metadata=noted,
        after=told.get("after", ""),
        before=told.get("before", ""),
        newest_first=order == "desc",
        most=int(limit),
    )
