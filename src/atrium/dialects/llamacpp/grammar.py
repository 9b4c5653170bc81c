"""What the output must look like, as a grammar for llguidance, which runs inside the engine.

The engine answers unconstrained, with 200, when a grammar does not compile. So every grammar is compiled here first,
and what does not compile is refused with the compiler's own reason. Schemas come reduced to what can be enforced.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise

from llguidance import LLMatcher
from llguidance.gbnf_to_lark import GbnfToLarkError, any_to_lark

from atrium.core.errors import InvalidSchema
from atrium.core.models import Vocabulary
from atrium.core.requests import Constraint, Gbnf, JsonObject, JsonSchema, JsonValue, Tool, ToolMode, ToolUse
from atrium.dialects.llamacpp.marks import CLOSE, OPEN
from atrium.dialects.llamacpp.tools import CALL_HEAD, CALL_TAIL, offered
from atrium.dialects.thoughts import THINK, THOUGHT

HEADER = "%llguidance {}\n"
FREE_TEXT = f"FREE: /(?s:.+)/ & ~/(?s:.*){OPEN}(?s:.*)/\n"
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

    def mark(self, text: str) -> str:
        """A mark as a terminal: a control token where the model has one of that name."""
        return text if text in self.control else json.dumps(text)


def answer_grammar(constraint: Constraint, use: ToolUse, frame: Frame) -> str:
    """The checked grammar of an answer, empty for free text. Raises InvalidSchema."""
    tools = offered(use)
    if not tools:
        return constraint_grammar(constraint, frame)
    calls = use.most_calls
    if use.mode is not ToolMode.AUTO:
        return checked(thoughtful(tools_grammar(tools, frame, calls=calls, free=""), frame), "tools")
    if isinstance(constraint, Gbnf):
        raise InvalidSchema("A grammar and tools cannot both shape the answer", param="grammar")
    if not isinstance(constraint, JsonObject | JsonSchema):
        return checked(tools_grammar(tools, frame, calls=calls, free=FREE_TEXT), "tools")
    shape = f"free: %json {schema_text(constraint_schema(constraint), frame.most, 'response_format')}\n"
    return checked(thoughtful(tools_grammar(tools, frame, calls=calls, free=shape), frame), "tools")


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
    thought = "(thought blank)" if frame.thoughts is Thoughts.OPEN else f"({frame.mark(THINK)} thought blank)?"
    if THOUGHT in frame.control:
        rule = f"thought: THINKING? {THOUGHT}\nTHINKING: /(?s:.+)/\n"
    else:
        rule = f"thought[suffix={json.dumps(THOUGHT)}]: /(?s:.*)/\n"
    shaped = grammar.replace("start: ", "shaped: ", 1).removeprefix(HEADER)
    return f"{HEADER}start: {thought} shaped\n{rule}blank: /[ \\n]{{0,2}}/\n{shaped}"


def tools_grammar(tools: Sequence[Tool], frame: Frame, *, calls: int, free: str) -> str:
    """Calls in the form that the prompt asks for; with `free`, a text or a value may stand instead or before."""
    row = f"call (sep call){{0,{calls - 1}}}" if calls > 1 else "call"
    forms = {"": f"start: {row}\n", FREE_TEXT: f"start: FREE? ({row})?\n"}
    start = forms.get(free, f"start: free | {row}\n")
    rules = [HEADER, start, free, 'sep: "\\n"\n', "call: " + " | ".join(f"call_{i}" for i in range(len(tools))) + "\n"]
    for index, tool in enumerate(tools):
        head = json.dumps(CALL_HEAD % json.dumps(tool.name, ensure_ascii=False), ensure_ascii=False)
        around = f"{frame.mark(OPEN)} {head} args_{index} {json.dumps(CALL_TAIL)} {frame.mark(CLOSE)}"
        schema = schema_text(tool_schema(tool.parameters), frame.most, "tools")
        rules.append(f"call_{index}: {around}\nargs_{index}: %json {schema}\n")
    return "".join(rules)


def tool_schema(parameters: Mapping[str, JsonValue]) -> JsonValue:
    return {"type": "object", **parameters} if parameters else {"type": "object"}


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
