"""What the output must look like, as a grammar for llguidance, which runs inside the engine.

The engine answers unconstrained, with 200, when a grammar does not compile. So every grammar is compiled here first,
and what does not compile is refused with the compiler's own reason. Schemas come reduced to what can be enforced.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise

from llguidance import LLMatcher
from llguidance.gbnf_to_lark import GbnfToLarkError, any_to_lark

from atrium.core.errors import InvalidSchema
from atrium.core.models import Vocabulary
from atrium.core.requests import Constraint, Gbnf, JsonObject, JsonSchema, JsonValue, Tool, ToolMode, ToolUse
from atrium.dialects.llamacpp.elements import elements_grammar
from atrium.dialects.llamacpp.markups import HERMES, Markup
from atrium.dialects.llamacpp.tools import offered
from atrium.dialects.thoughts import THINK, THOUGHT

HEADER = "%llguidance {}\n"
CUT = r"\/"
COMPACT: Mapping[str, JsonValue] = {"x-guidance": {"whitespace_flexible": False}}
"""No white space between tokens: a small model would spin on it."""
ENDS = ("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end|>", "<|end_of_text|>", "<end_of_turn>", "</s>", "<eos>")
"""Control tokens that end an answer, beside the one that the model's file names."""


class Thoughts(Enum):
    """Whether reasoning stands in front of what is shaped."""

    NONE = "none"
    POSSIBLE = "possible"
    OPEN = "open"
    """The prompt ends within it."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What a shape is set in: the model's own marks, and how large a schema or grammar may be, in bytes."""

    most: int
    thoughts: Thoughts = Thoughts.NONE
    control: Mapping[str, int] = field(default_factory=dict[str, int])
    """Of the model's control tokens those that may stand in an answer."""
    markup: Markup = HERMES

    def terms(self, text: str) -> str:
        """A text as terminals; a control token is one where the model has one of that name."""
        names = "|".join(re.escape(name) for name in sorted(self.control, key=len, reverse=True))
        parts = re.split(f"({names})", text) if names else [text]
        return " ".join(self._term(part) for part in parts if part)

    def _term(self, text: str) -> str:
        return f"<[{self.control[text]}]>" if text in self.control else json.dumps(text, ensure_ascii=False)


def answer_grammar(constraint: Constraint, use: ToolUse, frame: Frame) -> str:
    """The checked grammar of an answer, empty for free text. Raises InvalidSchema."""
    tools = offered(use)
    if not tools:
        return constraint_grammar(constraint, frame)
    calls = use.most_calls
    if use.mode is not ToolMode.AUTO:
        return checked(thoughtful(tools_grammar(tools, frame, calls=calls), frame), "tools")
    if isinstance(constraint, Gbnf):
        raise InvalidSchema("A grammar and tools cannot both shape the answer", param="grammar")
    if not isinstance(constraint, JsonObject | JsonSchema):
        words = free_text(frame.markup)
        return checked(tools_grammar(tools, frame, calls=calls, words=words), "tools")
    value = f"free: %json {schema_text(constraint_schema(constraint), frame.most, 'response_format')}\n"
    return checked(thoughtful(tools_grammar(tools, frame, calls=calls, value=value), frame), "tools")


def constraint_grammar(constraint: Constraint, frame: Frame) -> str:
    """Raises InvalidSchema."""
    if isinstance(constraint, JsonObject | JsonSchema):
        place = constraint.place if isinstance(constraint, JsonSchema) else "response_format"
        text = schema_text(constraint_schema(constraint), frame.most, place)
        return checked(thoughtful(f"{HEADER}start: %json {text}\n", frame), place)
    if isinstance(constraint, Gbnf):
        if len(constraint.text) > frame.most:
            raise InvalidSchema(f"The grammar is larger than {frame.most} bytes", param="grammar")
        try:
            return checked(any_to_lark(constraint.text), "grammar")
        except GbnfToLarkError as error:
            raise InvalidSchema(f"The grammar cannot be read: {error}", param="grammar") from None
    return ""


def constraint_schema(constraint: Constraint) -> JsonValue:
    return constraint.schema if isinstance(constraint, JsonSchema) else {"type": "object"}


def thoughtful(grammar: str, frame: Frame) -> str:
    """The same behind the model's reasoning, which nothing shapes."""
    if frame.thoughts is Thoughts.NONE:
        return grammar
    thought = "(thought blank)" if frame.thoughts is Thoughts.OPEN else f"({frame.terms(THINK)} thought blank)?"
    if THOUGHT in frame.control:
        rule = f"thought: THINKING? {frame.terms(THOUGHT)}\nTHINKING: /(?s:.+)/\n"
    else:
        rule = f"thought[suffix={json.dumps(THOUGHT)}]: /(?s:.*)/\n"
    shaped = grammar.replace("start: ", "shaped: ", 1).removeprefix(HEADER)
    return f"{HEADER}start: {thought} shaped\n{rule}blank: /[ \\n]{{0,2}}/\n{shaped}"


def free_text(markup: Markup) -> str:
    """A rule for a text in which no call begins."""
    if markup.mark:
        return f"FREE: /(?s:.+)/ & ~/(?s:.*){re.escape(markup.mark).replace('/', CUT)}(?s:.*)/\n"
    return 'FREE: /(?s:.+)/ & ~/[ \\n]*\\{[ \\n]*"name"(?s:.*)/\n'


def tools_grammar(tools: Sequence[Tool], frame: Frame, *, calls: int, words: str = "", value: str = "") -> str:
    """Calls in the form that the prompt asks for; `words` may stand before or instead, a `value` instead."""
    markup = frame.markup
    most = calls if markup.parallel else 1
    optional = f"({frame.terms(markup.optional)})? " if markup.optional in frame.control else ""
    more = f" ({frame.terms(markup.between)} call){{0,{most - 1}}}" if most > 1 else ""
    row = f"call{more} {frame.terms(markup.last)}"
    marked = f"{frame.terms(markup.first.removeprefix(markup.mark))} {row}"
    row = f"{optional}{frame.terms(markup.first)} {row}"
    start = f"start: {row}\n"
    if words and markup.mark in frame.control:
        start = f"start: FREE? ({row})?\n"
    elif words and markup.mark:
        # Words run into a mark that is text itself: only both together have an end that is told from the words.
        start = f"start: FREE? | marked {marked}\nmarked[suffix={json.dumps(markup.mark)}]: /(?s:.*)/\n"
    elif words:
        start = f"start: FREE | {row}\n"
    elif value:
        start = f"start: free | {row}\n"
    rules = [HEADER, start, words, value, "call: " + " | ".join(f"call_{i}" for i in range(len(tools))) + "\n"]
    for index, tool in enumerate(tools):
        arguments, written = arguments_grammar(f"args_{index}", tool, frame)
        around = f"{frame.terms(markup.named(tool.name))} {arguments} {frame.terms(markup.tail)}"
        rules.append(f"call_{index}: {around}\n{written}")
    return "".join(rules)


def arguments_grammar(rule: str, tool: Tool, frame: Frame) -> tuple[str, str]:
    """How a tool's arguments are named in a rule, and the rules themselves."""
    schema = tool_schema(tool.parameters)
    text = schema_text(schema, frame.most, "tools")
    if not frame.markup.elements:
        return rule, f"{rule}: %json {text}\n"
    return elements_grammar(rule, schema, lambda one: schema_text(one, frame.most, "tools"))


def tool_schema(parameters: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """A tool that names no parameters takes none."""
    if parameters.get("properties") or set(parameters) - {"type", "properties", "required"}:
        return {"type": "object", **parameters}
    return {"type": "object", "additionalProperties": False}


def schema_text(schema: JsonValue, most: int, place: str) -> str:
    """The schema as one line. Raises InvalidSchema when it is too large."""
    if not isinstance(schema, dict):
        raise InvalidSchema("The schema is not an object", param=place)
    text = json.dumps({**schema, **COMPACT})
    if len(text) > most:
        raise InvalidSchema(f"A schema of {len(text)} bytes is larger than the {most} allowed", param=place)
    return text


def lasting_grammar(least: int, vocabulary: Vocabulary) -> str:
    """Free text of at least so many tokens, for an engine that can only be told of a most.

    Tokens that end an answer are left out of the first `least`; behind them any of these may stand.
    """
    ends = {vocabulary.control[name] for name in ENDS if name in vocabulary.control}
    if vocabulary.eos is not None:
        ends.add(vocabulary.eos)
    edges = [-1, *sorted(ends), vocabulary.size]
    ranges = [(low + 1, high - 1) for low, high in pairwise(edges) if low + 1 <= high - 1]
    going_on = " | ".join(f"<[{low}-{high}]>" for low, high in ranges)
    ending = " | ".join(f"<[{token}]>" for token in sorted(ends))
    rules = f"start: token{{{least},}} {'ending?' if ends else ''}\ntoken: {going_on}\n"
    return checked(HEADER + rules + (f"ending: {ending}\n" if ends else ""), "min_tokens")


def checked(grammar: str, place: str) -> str:
    """Raises InvalidSchema with the compiler's reason."""
    complaint = LLMatcher.validate_grammar(grammar)
    if not complaint:
        return grammar
    reason = complaint.splitlines()[0].split(": ", 1)[-1]
    raise InvalidSchema(f"The shape of the answer cannot be enforced: {reason[:400]}", param=place)
