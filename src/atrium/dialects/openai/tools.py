"""`tools`, `tool_choice`, and their old form `functions`, `function_call`."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from atrium.core.errors import InvalidSchema, InvalidValue, Unsupported
from atrium.core.requests import MOST_CALLS, Tool, ToolMode, ToolUse
from atrium.dialects.fields import Fields, as_fields, shown, wrong

MOST_ALLOWED = 4096
HOSTED = frozenset(
    {"custom", "web_search", "web_search_preview", "file_search", "code_interpreter", "computer_use", "mcp"}
)
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def read_tool_use(fields: Fields, most: int) -> ToolUse:
    """Raises InvalidValue, also for a choice that names a tool which is not there."""
    if fields.has("functions") and not fields.has("tools"):
        return read_functions(fields, most)
    tools: list[Tool] = []
    for index, item in enumerate(fields.items("tools", most) or ()):
        tool = as_fields(item, f"tools[{index}]")
        refuse_kind(tool)
        function = tool.inner("function")
        if function is None:
            raise InvalidValue(f"'{tool.place('function')}' is required", param=tool.place("function"))
        tools.append(read_function(function))
    choice = read_choice(fields, "tool_choice")
    use = checked(ToolUse(tuple(tools), choice.mode, choice.name), "tool_choice")
    if choice.allowed is not None:
        use = replace(use, tools=allowed_of(use.tools, choice.allowed))
    return replace(use, most_calls=most_calls(fields, use.mode, len(use.tools)))


def refuse_kind(tool: Fields) -> None:
    """Raises InvalidValue for a kind that nobody knows, Unsupported for one that is known and not offered."""
    kind = tool.needed_text("type")
    if kind in HOSTED:
        raise Unsupported(f"Tools of the type '{kind}' are not offered here", param=tool.place("type"))
    tool.one_of("type", ("function",))


def allowed_of(tools: tuple[Tool, ...], names: frozenset[str]) -> tuple[Tool, ...]:
    """The tools of those names. Raises InvalidValue for a name that none of them has."""
    unknown = sorted(names - {tool.name for tool in tools})
    if unknown:
        raise InvalidValue(
            f"'tool_choice' allows the tool '{unknown[0][:64]}', which is not among the tools", param="tool_choice"
        )
    return tuple(tool for tool in tools if tool.name in names)


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
    choice = read_choice(fields, "function_call")
    return checked(ToolUse(tools, choice.mode, choice.name, most_calls=1, legacy=True), "function_call")


def read_function(function: Fields) -> Tool:
    name = function.needed_text("name")
    if not NAME.fullmatch(name):
        raise wrong(function.place("name"), "letters, digits, '_' and '-', at most 64", name)
    parameters = function.inner("parameters")
    if parameters is not None and parameters.raw("type") not in (None, "object"):
        place, given = parameters.place("type"), shown(parameters.raw("type"))
        raise InvalidSchema(f"'{place}' must be 'object', not {given}: arguments have names", param="tools")
    return Tool(
        name,
        function.text("description") or "",
        parameters.values if parameters else {},
        strict=function.flag("strict"),
    )


@dataclass(frozen=True, slots=True)
class ToolChoice:
    mode: ToolMode = ToolMode.AUTO
    name: str | None = None
    allowed: frozenset[str] | None = None
    """None: all of them."""


def read_choice(fields: Fields, field: str) -> ToolChoice:
    value = fields.raw(field)
    if value is None:
        return ToolChoice()
    if isinstance(value, str):
        modes = {"none": ToolMode.NONE, "auto": ToolMode.AUTO}
        if field == "tool_choice":
            modes["required"] = ToolMode.REQUIRED
        if value not in modes:
            raise wrong(field, " or ".join(f"'{m}'" for m in modes), value)
        return ToolChoice(modes[value])
    choice = as_fields(value, field)
    if field == "function_call":
        return ToolChoice(ToolMode.NAMED, choice.needed_text("name"))
    kind = choice.one_of("type", ("function", "allowed_tools"))
    if kind == "allowed_tools":
        return read_allowed(choice.inner("allowed_tools") or choice)
    return ToolChoice(ToolMode.NAMED, (choice.inner("function") or choice).needed_text("name"))


def read_allowed(allowed: Fields) -> ToolChoice:
    """`{"mode": "auto" | "required", "tools": [{"type": "function", "function": {"name"}}]}`."""
    mode = allowed.one_of("mode", ("auto", "required")) or "auto"
    names: set[str] = set()
    for index, item in enumerate(allowed.items("tools", MOST_ALLOWED) or ()):
        one = as_fields(item, f"{allowed.place('tools')}[{index}]")
        names.add((one.inner("function") or one).needed_text("name"))
    if not names:
        raise InvalidValue(f"'{allowed.place('tools')}' is required and must not be empty", param="tool_choice")
    return ToolChoice(ToolMode(mode), allowed=frozenset(names))


def checked(use: ToolUse, field: str) -> ToolUse:
    names = [tool.name for tool in use.tools]
    if len(set(names)) != len(names):
        raise InvalidValue("Two tools have the same name", param="functions" if use.legacy else "tools")
    if use.mode is ToolMode.NAMED and use.name not in names:
        raise InvalidValue(f"'{field}' names the tool '{use.name}', which is not among the tools", param=field)
    if use.mode is ToolMode.REQUIRED and not names:
        raise InvalidValue(f"'{field}' demands a tool, but there are none", param=field)
    return use
