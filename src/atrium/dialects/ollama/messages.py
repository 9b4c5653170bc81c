"""`messages` and `tools` of Ollama's chat: arguments are objects, images bare base64, and answers name their tool."""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson

from atrium.core.errors import InvalidValue
from atrium.core.requests import JsonValue, Media, Message, Role, Tool, ToolCall, ToolUse
from atrium.dialects.fields import Fields, as_fields, shown, wrong

ROLES = {"system": Role.SYSTEM, "user": Role.USER, "assistant": Role.ASSISTANT, "tool": Role.TOOL}
MOST_CALLS = 512
MOST_IMAGES = 256
DATA = "data:"
KINDS = {"iVBOR": "image/png", "/9j/": "image/jpeg", "R0lGOD": "image/gif", "UklGR": "image/webp", "Qk": "image/bmp"}
"""How each format's first bytes look in base64."""


@dataclass(slots=True)
class Calls:
    """Calls that were made so far, and which of them no answer has come for."""

    made: int = 0
    ids: set[str] = field(default_factory=set[str])
    unanswered: list[ToolCall] = field(default_factory=list[ToolCall])

    def note(self, calls: Sequence[ToolCall]) -> None:
        self.ids.update(call.id for call in calls)
        self.unanswered += calls

    def answered(self, call_id: str | None, tool: str | None) -> str | None:
        """The id of the call that an answer is to: by its id, else by the tool's name, else the oldest open one."""
        if call_id:
            self.unanswered = [call for call in self.unanswered if call.id != call_id]
            return call_id
        fit = [call for call in self.unanswered if tool is None or call.name == tool]
        if not fit:
            return None
        self.unanswered.remove(fit[0])
        return fit[0].id


def read_messages(items: Sequence[JsonValue]) -> tuple[Message, ...]:
    """Raises InvalidValue that names the message."""
    calls = Calls()
    return tuple(read_message(as_fields(item, f"messages[{index}]"), calls) for index, item in enumerate(items))


def read_message(fields: Fields, calls: Calls) -> Message:
    name = fields.needed_text("role")
    role = ROLES.get(name.lower())
    if role is None:
        raise wrong(fields.place("role"), f"one of {', '.join(ROLES)}", name)
    made = read_calls(fields, calls) if role is Role.ASSISTANT else ()
    answers = None
    tool = fields.text("tool_name") or fields.text("name")
    if role is Role.TOOL:
        answers = calls.answered(fields.text("tool_call_id"), tool)
    return Message(
        role,
        fields.text("content") or "",
        read_images(fields, "images"),
        tool,
        made,
        answers,
        fields.text("thinking") or "",
    )


def read_calls(fields: Fields, calls: Calls) -> tuple[ToolCall, ...]:
    made: list[ToolCall] = []
    for index, item in enumerate(fields.items("tool_calls", MOST_CALLS) or ()):
        call = as_fields(item, f"{fields.place('tool_calls')}[{index}]")
        function = call.inner("function")
        if function is None:
            raise InvalidValue(f"'{call.place('function')}' is required", param=call.place("function"))
        calls.made += 1
        own = call.text("id") or f"call_{calls.made}"
        made.append(ToolCall(own, function.needed_text("name"), read_arguments(function)))
    calls.note(made)
    return tuple(made)


def read_arguments(function: Fields) -> str:
    value = function.raw("arguments")
    if value is None:
        return "{}"
    if isinstance(value, str):
        return value or "{}"
    if isinstance(value, dict):
        return orjson.dumps(value).decode()
    raise wrong(function.place("arguments"), "an object", value)


def read_images(fields: Fields, name: str) -> tuple[Media, ...]:
    """Base64, bare or as a data URI. Raises InvalidValue for what is neither."""
    images: list[Media] = []
    for index, item in enumerate(fields.items(name, MOST_IMAGES) or ()):
        place = f"{fields.place(name)}[{index}]"
        if not isinstance(item, str) or not item:
            raise InvalidValue(f"'{place}' must be base64 of an image, not {shown(item)}", param=place)
        images.append(Media("image", item if item.startswith(DATA) else as_data(item, place), place))
    return tuple(images)


def as_data(text: str, place: str) -> str:
    try:
        binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError):
        raise InvalidValue(f"illegal base64 data at '{place}'", param=place) from None
    kind = next((kind for start, kind in KINDS.items() if text.startswith(start)), "application/octet-stream")
    return f"data:{kind};base64,{text}"


def read_tools(fields: Fields, most: int) -> ToolUse:
    """Raises InvalidValue."""
    tools: list[Tool] = []
    for index, item in enumerate(fields.items("tools", most) or ()):
        tool = as_fields(item, f"tools[{index}]")
        function = tool.inner("function")
        if function is None:
            raise InvalidValue(f"'{tool.place('function')}' is required", param=tool.place("function"))
        parameters = function.inner("parameters")
        schema = {} if parameters is None else {k: v for k, v in parameters.values.items() if v is not None}
        tools.append(Tool(function.needed_text("name"), function.text("description") or "", schema))
    return ToolUse(tuple(tools))
