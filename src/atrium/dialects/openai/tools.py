"""`tools`, `tool_choice`, and their old form `functions`, `function_call`."""

from __future__ import annotations

import re

from atrium.core.errors import InvalidValue
from atrium.core.requests import MOST_CALLS, Tool, ToolMode, ToolUse
from atrium.dialects.fields import Fields, as_fields, wrong

NAME = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")


def read_tool_use(fields: Fields, most: int) -> ToolUse:
    """Raises InvalidValue, also for a choice that names a tool which is not there."""
    if fields.has("functions") and not fields.has("tools"):
        return read_functions(fields, most)
    tools: list[Tool] = []
    for index, item in enumerate(fields.items("tools", most) or ()):
        tool = as_fields(item, f"tools[{index}]")
        tool.one_of("type", ("function",))
        function = tool.inner("function")
        if function is None:
            raise InvalidValue(f"'{tool.place('function')}' is required", param=tool.place("function"))
        tools.append(read_function(function))
    mode, name = read_choice(fields, "tool_choice")
    most = most_calls(fields, mode, len(tools))
    return checked(ToolUse(tuple(tools), mode, name, most), "tool_choice")


def most_calls(fields: Fields, mode: ToolMode, tools: int) -> int:
    """A named tool is called once; where a call is demanded and nothing was said of several, each tool once at most."""
    if mode is ToolMode.NAMED or not fields.flag("parallel_tool_calls", default=True):
        return 1
    if mode is ToolMode.REQUIRED and not fields.has("parallel_tool_calls"):
        return min(MOST_CALLS, max(1, tools))
    return MOST_CALLS


def read_functions(fields: Fields, most: int) -> ToolUse:
    items = fields.items("functions", most) or []
    tools = tuple(read_function(as_fields(item, f"functions[{i}]")) for i, item in enumerate(items))
    mode, name = read_choice(fields, "function_call")
    return checked(ToolUse(tools, mode, name, most_calls=1, legacy=True), "function_call")


def read_function(function: Fields) -> Tool:
    name = function.needed_text("name")
    if not NAME.fullmatch(name):
        raise wrong(function.place("name"), "letters, digits, '_', '-', at most 128", name)
    parameters = function.inner("parameters")
    return Tool(
        name,
        function.text("description") or "",
        parameters.values if parameters else {},
        strict=function.flag("strict"),
    )


def read_choice(fields: Fields, field: str) -> tuple[ToolMode, str | None]:
    value = fields.raw(field)
    if value is None:
        return ToolMode.AUTO, None
    if isinstance(value, str):
        modes = {"none": ToolMode.NONE, "auto": ToolMode.AUTO}
        if field == "tool_choice":
            modes |= {"required": ToolMode.REQUIRED, "any": ToolMode.REQUIRED}
        if value not in modes:
            raise wrong(field, " or ".join(f"'{m}'" for m in modes), value)
        return modes[value], None
    choice = as_fields(value, field)
    named = choice.inner("function") if field == "tool_choice" else choice
    return ToolMode.NAMED, (named or choice).needed_text("name")


def checked(use: ToolUse, field: str) -> ToolUse:
    names = [tool.name for tool in use.tools]
    if len(set(names)) != len(names):
        raise InvalidValue("Two tools have the same name", param="functions" if use.legacy else "tools")
    if use.mode is ToolMode.NAMED and use.name not in names:
        raise InvalidValue(f"'{field}' names the tool '{use.name}', which is not among the tools", param=field)
    if use.mode is ToolMode.REQUIRED and not names:
        raise InvalidValue(f"'{field}' demands a tool, but there are none", param=field)
    return use
