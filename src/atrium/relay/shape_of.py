"""From what a request wants its answer to look like to a checked grammar: work without waiting, here or in a child."""

from __future__ import annotations

from dataclasses import dataclass, replace

from atrium.core.requests import Constraint, FreeText, Gbnf, JsonSchema, Tool, ToolMode, ToolUse
from atrium.decisions.enforce_schema import enforce_schema
from atrium.dialects.llamacpp.grammar import Frame, answer_grammar
from atrium.dialects.llamacpp.tools import offered

SMALL = 2048
"""Bytes of JSON up to which a plain shape is compiled quicker than it is handed on."""
HEAVY = ("pattern", "allOf", "oneOf")
"""Keywords that multiply with one another, so that a few hundred bytes of them can take gigabytes and hours."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A grammar, empty for free text, and what of the request it does not keep."""

    grammar: str = ""
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    constraint: Constraint
    tool_use: ToolUse
    frame: Frame

    @property
    def place(self) -> str:
        """The field of the request that most of it came from."""
        if isinstance(self.constraint, Gbnf):
            return "grammar"
        forced = self.tool_use.mode in (ToolMode.REQUIRED, ToolMode.NAMED)
        if forced or isinstance(self.constraint, FreeText):
            return "tools"
        return self.constraint.place if isinstance(self.constraint, JsonSchema) else "response_format"

    @property
    def harmless(self) -> bool:
        """Whether it is compiled in a moment whatever it says."""
        if isinstance(self.constraint, Gbnf):
            return False
        text = f"{offered(self.tool_use)}{self.constraint}"
        return len(text) <= SMALL and not any(word in text for word in HEAVY)


def shape_of(wanted: Wanted) -> Shape:
    """Raises InvalidSchema, Unsupported."""
    use = wanted.tool_use
    constraint, dropped = reduced(wanted.constraint)
    if use.mode in (ToolMode.REQUIRED, ToolMode.NAMED):
        # The answer is a call, whatever else was asked for.
        constraint, dropped = FreeText(), ()
    tools = [reduced_tool(tool) for tool in use.tools]
    kept = replace(use, tools=tuple(tool for tool, _ in tools))
    named = {name: None for _, names in tools for name in names}
    return Shape(answer_grammar(constraint, kept, wanted.frame), (*dropped, *named))


def reduced(constraint: Constraint) -> tuple[Constraint, tuple[str, ...]]:
    """Raises InvalidSchema."""
    if not isinstance(constraint, JsonSchema):
        return constraint, ()
    place = constraint.place
    enforced = enforce_schema(constraint.schema, strict=constraint.strict, place=place)
    return replace(constraint, schema=enforced.schema), tuple(f"{place}.{name}" for name in enforced.dropped)


def reduced_tool(tool: Tool) -> tuple[Tool, tuple[str, ...]]:
    """Raises InvalidSchema."""
    if not tool.parameters:
        return tool, ()
    given = {"type": "object", **tool.parameters}
    enforced = enforce_schema(given, strict=tool.strict, place="tools")
    return replace(tool, parameters=enforced.schema), tuple(f"tools.{name}" for name in enforced.dropped)
