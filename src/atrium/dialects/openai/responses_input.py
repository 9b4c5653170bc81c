"""`instructions` and `input` of a response, item by item, as messages of a chat.

Source: contract `openai.md`, section 6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from atrium.core.errors import InvalidValue, Unsupported
from atrium.core.requests import JsonValue
from atrium.dialects.fields import Fields, as_fields, wrong

Json = dict[str, JsonValue]
MOST_PARTS = 4096
TEXTS = ("input_text", "output_text", "text")


@dataclass(slots=True)
class Item:
    """A message of a chat, and where in the request it stood."""

    message: Json
    place: str


def read_input(fields: Fields, most: int) -> list[Item]:
    """Raises InvalidValue, Unsupported."""
    said = fields.text("instructions")
    found = [Item({"role": "system", "content": said}, "instructions")] if said else []
    value = fields.raw("input")
    if value is None:
        raise InvalidValue("'input' is required", param="input")
    if isinstance(value, str):
        return [*found, Item({"role": "user", "content": value}, "input")]
    if not isinstance(value, list) or not value:
        raise wrong("input", "a text or a list of items, and not empty", value)
    for index, one in enumerate(fields.items("input", most) or ()):
        add_item(found, as_fields(one, f"input[{index}]"))
    return found


def add_item(found: list[Item], item: Fields) -> None:
    kind = item.text("type") or "message"
    if kind == "message":
        found.append(Item({"role": item.needed_text("role"), "content": read_parts(item, "content")}, item.path))
    elif kind == "function_call":
        add_call(found, item)
    elif kind == "function_call_output":
        call_id, output = item.needed_text("call_id"), read_parts(item, "output")
        found.append(Item({"role": "tool", "tool_call_id": call_id, "content": output}, item.path))
    elif kind == "item_reference":
        raise Unsupported("Items are not kept here", hint="Send the item itself", param=item.path)
    elif kind != "reasoning":
        # What a model thought is told to its reader, and asked of no model again.
        raise InvalidValue(f"'{item.place('type')}' is '{kind[:64]}', which no model here takes", param=item.path)


def add_call(found: list[Item], item: Fields) -> None:
    """Calls that were made together stand in one message, behind what was said with them."""
    function: Json = {"name": item.needed_text("name"), "arguments": item.text("arguments") or "{}"}
    call: Json = {"id": item.needed_text("call_id"), "type": "function", "function": function}
    last = found[-1].message if found else None
    if last is None or last["role"] != "assistant":
        found.append(Item({"role": "assistant", "content": None, "tool_calls": [call]}, item.path))
        return
    calls = cast("list[JsonValue]", last.setdefault("tool_calls", []))
    calls.append(call)


def read_parts(item: Fields, name: str) -> JsonValue:
    """A text, or a list of parts."""
    value = item.raw(name)
    if not isinstance(value, list):
        return value
    parts = item.items(name, MOST_PARTS) or []
    return [read_part(as_fields(part, f"{item.place(name)}[{index}]")) for index, part in enumerate(parts)]


def read_part(part: Fields) -> JsonValue:
    kind = part.needed_text("type")
    if kind in TEXTS:
        return {"type": "text", "text": part.raw("text")}
    if kind == "input_image":
        if part.has("file_id"):
            raise Unsupported("Images are not kept here", hint="Send it in 'image_url'", param=part.place("file_id"))
        return {"type": "image_url", "image_url": {"url": part.raw("image_url"), "detail": part.raw("detail")}}
    if kind == "input_file":
        if part.has("file_url"):
            raise Unsupported("Files are not fetched", hint="Send it in 'file_data'", param=part.place("file_url"))
        names = ("file_data", "file_id", "filename")
        return {"type": "file", "file": {one: part.raw(one) for one in names if part.has(one)}}
    return dict(part.values)
