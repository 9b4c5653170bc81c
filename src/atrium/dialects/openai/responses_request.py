"""`POST /v1/responses`: a request in the words of that API, put into those of a chat and read as one.

What it asks for is what a chat asks for, in other places; errors name the places that the caller wrote to. Nothing is
kept, so that a conversation comes whole in `input`. Source: contract `openai.md`, section 6.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from atrium.core.errors import AtriumError, Unsupported
from atrium.core.requests import Chat, JsonValue
from atrium.dialects.bounds import RequestBounds
from atrium.dialects.fields import Fields, as_fields
from atrium.dialects.json_text import parse_object
from atrium.dialects.openai.request import MOST_LOGPROBS, read_chat
from atrium.dialects.openai.responses_input import Item, read_input
from atrium.dialects.openai.sampling import INT32
from atrium.dialects.openai.tools import refuse_kind

Json = dict[str, JsonValue]
SAME = (
    *("model", "stream", "temperature", "top_p", "parallel_tool_calls", "truncation", "user", "metadata"),
    *("top_k", "min_p", "seed", "stop", "keep_alive", "chat_template_kwargs", "personality", "atrium"),
)
"""Fields that a chat has under the same name."""
OWN = frozenset({"input", "instructions", "max_output_tokens", "text", "tools", "tool_choice", "reasoning", "include"})
KEPT = {
    "previous_response_id": "Send the whole conversation in 'input'",
    "conversation": "Send the whole conversation in 'input'",
    "prompt": "Send its text in 'instructions'",
    "background": "Ask for a stream",
}
"""What needs something that is kept here between requests, and what does without it."""
SCORES = "message.output_text.logprobs"
MOST_INCLUDED = 64


@dataclass(frozen=True, slots=True)
class ResponseAsk:
    chat: Chat
    asked: Mapping[str, JsonValue]
    """The request's own fields, some of which its answer repeats."""
    items: Sequence[Item]

    def in_place(self, error: AtriumError) -> AtriumError:
        """What is wrong with the chat that was made of it, told of what the caller wrote."""
        return in_place(error, self.items)


def parse_response(raw: bytes, bounds: RequestBounds) -> ResponseAsk:
    """Raises InvalidJson, InvalidValue, Unsupported."""
    fields = Fields(parse_object(raw, depth=bounds.depth, items=bounds.items))
    for name, hint in KEPT.items():
        if fields.raw(name) not in (None, False):
            raise Unsupported(f"'{name}' needs answers that are kept, and none are here", hint=hint, param=name)
    items = read_input(fields, bounds.messages)
    chat: Json = {name: fields.values[name] for name in SAME if name in fields.values}
    chat["messages"] = [item.message for item in items]
    chat |= length_member(fields) | shape_member(fields) | tool_members(fields, bounds.tools)
    chat |= reasoning_member(fields) | score_members(fields)
    try:
        read = read_chat(Fields(chat), bounds)
    except AtriumError as error:
        raise in_place(error, items) from None
    known = {*SAME, *OWN, *KEPT, "top_logprobs"}
    unknown = [name for name, value in fields.values.items() if name not in known and value not in (None, False)]
    dropped = (*unknown, *dropped_within(fields))
    chat_read = replace(read, dropped=(*read.dropped, *dropped), fields=tuple(fields.values))
    return ResponseAsk(chat_read, fields.values, items)


def length_member(fields: Fields) -> Json:
    most = fields.integer("max_output_tokens", 1, INT32)
    return {} if most is None else {"max_completion_tokens": most}


def shape_member(fields: Fields) -> Json:
    """`text.format`, whose schema stands beside its type."""
    text = fields.inner("text")
    shape = text.inner("format") if text else None
    if shape is None:
        return {}
    kind = shape.one_of("type", ("text", "json_object", "json_schema"))
    if kind == "json_schema":
        return {"response_format": {"type": kind, "json_schema": without(shape.values, "type")}}
    return {"response_format": {"type": kind}}


def tool_members(fields: Fields, most: int) -> Json:
    """Functions stand beside their type, in the list and in the choice."""
    told: Json = {}
    tools = fields.items("tools", most)
    if tools is not None:
        told["tools"] = [chat_tool(as_fields(item, f"tools[{at}]")) for at, item in enumerate(tools)]
    choice = fields.raw("tool_choice")
    if isinstance(choice, dict) and choice.get("type") not in ("function", "allowed_tools"):
        refuse_kind(Fields(choice, "tool_choice"))
    if choice is not None:
        told["tool_choice"] = choice
    return told


def chat_tool(tool: Fields) -> Json:
    refuse_kind(tool)
    return {"type": "function", "function": without(tool.values, "type")}


def reasoning_member(fields: Fields) -> Json:
    reasoning = fields.inner("reasoning")
    effort = reasoning.text("effort") if reasoning else None
    return {"reasoning_effort": effort} if effort else {}


def score_members(fields: Fields) -> Json:
    top = fields.integer("top_logprobs", 0, MOST_LOGPROBS)
    wanted = SCORES in (fields.items("include", MOST_INCLUDED) or ())
    return {"logprobs": True, "top_logprobs": top or 0} if wanted else {}


def dropped_within(fields: Fields) -> tuple[str, ...]:
    """Parts of what is honoured that are of no effect."""
    names: list[str] = []
    others = [name for name in fields.items("include", MOST_INCLUDED) or () if name != SCORES]
    if others:
        names.append("include")
    for name, known in (("reasoning", "effort"), ("text", "format")):
        inner = fields.inner(name)
        names += [f"{name}.{one}" for one, value in inner.values.items() if one != known and value] if inner else []
    return tuple(names)


def without(values: Mapping[str, JsonValue], name: str) -> Json:
    return {key: value for key, value in values.items() if key != name}


MESSAGE = re.compile(r"messages\[(\d{1,9})\]")
QUOTED = re.compile(r"'((?:messages|tools|max_completion_tokens|response_format|reasoning_effort)\b[\w.\[\]]*)'")
"""A place in a chat, as errors tell of it. What else they quote is the caller's own."""
SPELLED = (
    ("max_completion_tokens", "max_output_tokens"),
    ("response_format.json_schema", "text.format"),
    ("response_format", "text.format"),
    ("reasoning_effort", "reasoning.effort"),
    ("].function", "]"),
    (".image_url.url", ".image_url"),
    (".file.", "."),
)
"""A chat's words, and those for the same here."""


def in_place(error: AtriumError, items: Sequence[Item]) -> AtriumError:
    """The same error, about the places that the caller wrote to."""

    def place(found: re.Match[str]) -> str:
        number = int(found[1])
        return items[number].place if number < len(items) else found[0]

    def spelled(text: str) -> str:
        text = MESSAGE.sub(place, text)
        for chats, own in SPELLED:
            text = text.replace(chats, own)
        return "input" if text == "messages" else text

    error.message = QUOTED.sub(lambda found: f"'{spelled(found[1])}'", error.message)
    error.param = spelled(error.param) if error.param else error.param
    return error
