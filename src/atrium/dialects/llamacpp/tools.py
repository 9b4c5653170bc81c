"""Tools in the prompt: natively where the model's template knows them, else told in a system message of ours."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from atrium.core.requests import JsonValue, Message, Role, Tool, ToolCall, ToolMode, ToolUse
from atrium.dialects.llamacpp.marks import CLOSE, OPEN

CALL_HEAD = '\n{"name": %s, "arguments": '
CALL_TAIL = "}\n"


def offered(use: ToolUse) -> tuple[Tool, ...]:
    """The tools that the model may call in this answer."""
    if use.mode is ToolMode.NONE:
        return ()
    if use.mode is ToolMode.NAMED:
        return tuple(tool for tool in use.tools if tool.name == use.name)
    return use.tools


def tool_objects(tools: Sequence[Tool]) -> list[JsonValue]:
    """As templates expect them."""
    return [
        {
            "type": "function",
            "function": {"name": t.name, "description": t.description, "parameters": dict(t.parameters)},
        }
        for t in tools
    ]


def instructions(tools: Sequence[Tool]) -> str:
    lines = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tool_objects(tools))
    return (
        "You can call these functions, one JSON object per line:\n"
        f"{lines}\n"
        "To call one, write exactly\n"
        f'{OPEN}\n{{"name": "the function", "arguments": {{"its": "arguments"}}}}\n{CLOSE}\n'
        "and nothing after it. Its result will be given to you. Call a function only when it helps to answer."
    )


def tell_tools(messages: Sequence[Message], tools: Sequence[Tool]) -> tuple[Message, ...]:
    """The same conversation for a template that knows no tools: all of it becomes text."""
    told = [_as_text(message) for message in messages]
    if not tools:
        return tuple(told)
    text = instructions(tools)
    if told and told[0].role is Role.SYSTEM:
        return (replace(told[0], text=f"{told[0].text}\n\n{text}"), *told[1:])
    return (Message(Role.SYSTEM, text), *told)


def _as_text(message: Message) -> Message:
    if message.tool_calls:
        calls = "\n".join(call_text(call) for call in message.tool_calls)
        text = f"{message.text}\n{calls}" if message.text else calls
        return replace(message, text=text, tool_calls=())
    if message.role is Role.TOOL:
        return Message(Role.USER, f"<tool_response>\n{message.text}\n</tool_response>")
    return message


def call_text(call: ToolCall) -> str:
    return f"{OPEN}{CALL_HEAD % json.dumps(call.name)}{call.arguments}{CALL_TAIL}{CLOSE}"


def template_messages(messages: Sequence[Message]) -> list[dict[str, JsonValue]]:
    """Messages as templates of today's models read them; arguments as objects where they are such."""
    shaped: list[dict[str, JsonValue]] = []
    for message in messages:
        one: dict[str, JsonValue] = {"role": message.role.value, "content": message.text}
        if message.name:
            one["name"] = message.name
        if message.tool_call_id:
            one["tool_call_id"] = message.tool_call_id
        if message.tool_calls:
            one["tool_calls"] = [
                {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": _arguments(c.arguments)}}
                for c in message.tool_calls
            ]
        shaped.append(one)
    return shaped


def _arguments(text: str) -> JsonValue:
    try:
        return json.loads(text)
    except ValueError:
        return text
