"""What the output must look like, as a grammar for llguidance, which runs inside the engine.

The engine answers unconstrained, with 200, when a grammar does not compile. So every grammar is compiled here first,
and what does not compile is refused with the compiler's own reason.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from llguidance import LLMatcher
from llguidance.gbnf_to_lark import GbnfToLarkError, any_to_lark

from atrium.core.errors import InvalidSchema
from atrium.core.requests import Chat, Constraint, Gbnf, JsonObject, JsonSchema, JsonValue, Tool, ToolMode
from atrium.dialects.llamacpp.tools import CALL_HEAD, CALL_TAIL, CLOSE, OPEN, offered

DEEPEST_SCHEMA = 64
HEADER = "%llguidance {}\n"
FREE_TEXT = f"FREE: /(?s:.+)/ & ~/(?s:.*){OPEN}(?s:.*)/\n"


def chat_grammar(chat: Chat, *, most: int) -> str:
    """The checked grammar of a chat's answer, empty for free text. `most` bounds each schema's size in bytes.

    Raises InvalidSchema.
    """
    tools = offered(chat.tool_use)
    if not tools:
        return constraint_grammar(chat.constraint, most=most)
    forced = chat.tool_use.mode is not ToolMode.AUTO
    if not forced and not isinstance(chat.constraint, JsonObject | JsonSchema | Gbnf):
        return checked(tools_grammar(tools, most=most, calls=chat.tool_use.most_calls, free=FREE_TEXT), "tools")
    if forced:
        return checked(tools_grammar(tools, most=most, calls=chat.tool_use.most_calls, free=""), "tools")
    if isinstance(chat.constraint, Gbnf):
        raise InvalidSchema("A grammar and tools cannot both shape the answer", param="grammar")
    shape = f"free: %json {schema_text(constraint_schema(chat.constraint), most, 'response_format')}\n"
    return checked(tools_grammar(tools, most=most, calls=chat.tool_use.most_calls, free=shape), "tools")


def constraint_grammar(constraint: Constraint, *, most: int) -> str:
    """Raises InvalidSchema."""
    if isinstance(constraint, JsonObject | JsonSchema):
        place = constraint.place if isinstance(constraint, JsonSchema) else "response_format"
        text = schema_text(constraint_schema(constraint), most, place)
        return checked(f"{HEADER}start: %json {text}\n", place)
    if isinstance(constraint, Gbnf):
        if len(constraint.text) > most:
            raise InvalidSchema(f"The grammar is larger than {most} bytes", param="grammar")
        try:
            return checked(any_to_lark(constraint.text), "grammar")
        except GbnfToLarkError as error:
            raise InvalidSchema(f"The grammar cannot be read: {error}", param="grammar") from None
    return ""


def constraint_schema(constraint: Constraint) -> JsonValue:
    return constraint.schema if isinstance(constraint, JsonSchema) else {"type": "object"}


def tools_grammar(tools: Sequence[Tool], *, most: int, calls: int, free: str) -> str:
    """Calls in the form that the prompt asks for; with `free`, a text or a value may stand instead or before."""
    row = f"call (sep call){{0,{calls - 1}}}" if calls > 1 else "call"
    forms = {"": f"start: {row}\n", FREE_TEXT: f"start: FREE? ({row})?\n"}
    start = forms.get(free, f"start: free | {row}\n")
    rules = [HEADER, start, free, 'sep: "\\n"\n', "call: " + " | ".join(f"call_{i}" for i in range(len(tools))) + "\n"]
    for index, tool in enumerate(tools):
        head = json.dumps(OPEN + CALL_HEAD % json.dumps(tool.name, ensure_ascii=False), ensure_ascii=False)
        tail = json.dumps(CALL_TAIL + CLOSE)
        schema = schema_text(tool_schema(tool.parameters), most, "tools")
        rules.append(f"call_{index}: {head} args_{index} {tail}\nargs_{index}: %json {schema}\n")
    return "".join(rules)


def tool_schema(parameters: Mapping[str, JsonValue]) -> JsonValue:
    return {"type": "object", **parameters} if parameters else {"type": "object"}


def schema_text(schema: JsonValue, most: int, place: str) -> str:
    """The schema as one line, without room for free white space. Raises InvalidSchema when it is no schema."""
    text = json.dumps(schema)
    if len(text) > most:
        raise InvalidSchema(f"A schema of {len(text)} bytes is larger than the {most} allowed", param=place)
    if isinstance(schema, bool):
        schema = {} if schema else {"not": {}}
    if not isinstance(schema, dict):
        raise InvalidSchema("The schema is not an object", param=place)
    if depth_of(text) > DEEPEST_SCHEMA:
        raise InvalidSchema(f"A schema is nested more than {DEEPEST_SCHEMA} levels deep", param=place)
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        where = "/".join(str(part) for part in error.absolute_path)
        raise InvalidSchema(f"The schema is invalid at '/{where}': {error.message[:300]}", param=place) from None
    except RecursionError:
        raise InvalidSchema("The schema refers to itself without end", param=place) from None
    return json.dumps({**schema, "x-guidance": {"whitespace_flexible": False}})


def depth_of(text: str) -> int:
    """Deepest nesting of a JSON text; brackets within strings may add to it, which errs on the safe side."""
    depth = deepest = 0
    for character in text:
        if character in "{[":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "}]":
            depth -= 1
    return deepest


def checked(grammar: str, place: str) -> str:
    """Raises InvalidSchema with the compiler's reason."""
    complaint = LLMatcher.validate_grammar(grammar)
    if not complaint:
        return grammar
    reason = complaint.splitlines()[0].split(": ", 1)[-1]
    raise InvalidSchema(f"The shape of the answer cannot be enforced: {reason[:400]}", param=place)
