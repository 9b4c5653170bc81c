"""`messages`: roles, parts, tool calls and their answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from atrium.core.errors import InvalidValue
from atrium.core.requests import JsonValue, Media, Message, Role, ToolCall
from atrium.dialects.fields import Fields, as_fields, shown, wrong

ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "tool": Role.TOOL,
    "function": Role.TOOL,
}
MOST_PARTS = 4096
MOST_CALLS = 512
TEXT_PARTS = ("text", "input_text", "output_text")
MediaKind = Literal["image", "audio", "video", "file"]
MEDIA_PARTS: dict[str, MediaKind] = {
    "image_url": "image",
    "input_audio": "audio",
    "audio_url": "audio",
    "video_url": "video",
    "file": "file",
}


def read_messages(items: Sequence[JsonValue]) -> tuple[Message, ...]:
    """Raises InvalidValue that names the message; an answer to a call that nobody made is one of the reasons."""
    if not items:
        raise InvalidValue("'messages' must hold at least one message", param="messages")
    messages: list[Message] = []
    called: set[str] = set()
    for index, item in enumerate(items):
        message = read_message(as_fields(item, f"messages[{index}]"), called)
        called |= {call.id for call in message.tool_calls}
        messages.append(message)
    return tuple(messages)


def read_message(fields: Fields, called: set[str]) -> Message:
    name = fields.needed_text("role")
    role = ROLES.get(name)
    if role is None:
        raise wrong(fields.place("role"), f"one of {', '.join(ROLES)}", name)
    calls = read_calls(fields) if role is Role.ASSISTANT else ()
    text, media = read_content(fields, optional=bool(calls))
    answers = None
    if name == "tool":
        answers = fields.needed_text("tool_call_id")
        if answers not in called:
            message = f"'{fields.place('tool_call_id')}' answers a call that no earlier message made"
            raise InvalidValue(message, param="messages")
    elif name == "function":
        answers = fields.needed_text("name")
    return Message(role, text, media, fields.text("name"), calls, answers)


def read_content(fields: Fields, *, optional: bool) -> tuple[str, tuple[Media, ...]]:
    value = fields.raw("content")
    place = fields.place("content")
    if value is None:
        return read_absent(fields, place, optional=optional), ()
    if isinstance(value, str):
        return value, ()
    if not isinstance(value, list):
        raise wrong(place, "a string or a list of parts", value)
    if len(value) > MOST_PARTS:
        raise InvalidValue(f"'{place}' has more than {MOST_PARTS} parts", param=place)
    texts: list[str] = []
    media: list[Media] = []
    for index, item in enumerate(value):
        part = as_fields(item, f"{place}[{index}]")
        kind = part.needed_text("type")
        if kind in TEXT_PARTS:
            texts.append(read_said(part, "text"))
        elif kind == "refusal":
            texts.append(read_said(part, "refusal"))
        elif kind in MEDIA_PARTS:
            media.append(replace(read_media(part, kind), at=sum(map(len, texts))))
        else:
            raise InvalidValue(f"'{part.place('type')}' is {shown(kind)}, which no model here takes", param=part.path)
    return "".join(texts), tuple(media)


def read_absent(fields: Fields, place: str, *, optional: bool) -> str:
    """What stands for a content that is null. An assistant's refusal comes back as it was told."""
    refusal = fields.text("refusal") if fields.raw("role") == "assistant" else None
    if refusal is None and not optional:
        raise InvalidValue(f"'{place}' is required", param=place)
    return refusal or ""


def read_said(part: Fields, name: str) -> str:
    """What may be empty, and not absent."""
    said = part.text(name)
    if said is None:
        raise InvalidValue(f"'{part.place(name)}' is required", param=part.place(name))
    return said


def read_file(part: Fields) -> Media:
    """Its content, or the id of one that was uploaded; the content wins."""
    inner = part.inner("file")
    if inner is None:
        raise InvalidValue(f"'{part.place('file')}' is required", param=part.place("file"))
    name, uploaded = inner.text("filename") or "", inner.text("file_id") or ""
    if uploaded and not inner.has("file_data"):
        return Media("file", "", part.path, name=name, uploaded=uploaded)
    return Media("file", inner.needed_text("file_data"), part.path, name=name)


def read_media(part: Fields, kind: str) -> Media:
    if kind == "file":
        return read_file(part)
    if isinstance(part.raw(kind), str):
        return Media(MEDIA_PARTS[kind], part.needed_text(kind), part.path)
    inner = part.inner(kind)
    if inner is None:
        raise InvalidValue(f"'{part.place(kind)}' is required", param=part.place(kind))
    url = inner.needed_text("data" if kind == "input_audio" else "url")
    return Media(MEDIA_PARTS[kind], url, part.path, inner.text("detail") or "")


def read_calls(fields: Fields) -> tuple[ToolCall, ...]:
    calls: list[ToolCall] = []
    for index, item in enumerate(fields.items("tool_calls", MOST_CALLS) or ()):
        call = as_fields(item, f"{fields.place('tool_calls')}[{index}]")
        function = call.inner("function")
        if function is None:
            raise InvalidValue(f"'{call.place('function')}' is required", param=call.place("function"))
        calls.append(ToolCall(call.needed_text("id"), function.needed_text("name"), function.text("arguments") or "{}"))
    older = fields.inner("function_call")
    if older is not None:
        name = older.needed_text("name")
        calls.append(ToolCall(name, name, older.text("arguments") or "{}"))
    return tuple(calls)
