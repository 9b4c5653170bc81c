"""Calls whose arguments are elements, as the templates of Qwen's coders teach: one rule of writing, one of reading.

    <function=NAME>
    <parameter=KEY>
    VALUE
    </parameter>
    </function>

A value that can only be a string stands as it is; every other one, and a string of some pattern, stands as JSON. Where
a tool's arguments are no plain object, one JSON object stands in place of the elements.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from atrium.core.requests import JsonValue, Tool

Schema = Mapping[str, JsonValue]
FUNCTION = re.compile(r"\s*<function=([^\s>]{1,64})>\s*")
PARAMETER = re.compile(r"<parameter=([^>\n]+)>\n?(.*?)\n?</parameter>\s*(?=<parameter=|</function>)", re.DOTALL)
OPENED = re.compile(r"<parameter=([^>\n]+)>\n?(.*)", re.DOTALL)
OPEN, CLOSE, END = "<parameter=", "</parameter>", "</function>"
AFTER = f"\n{CLOSE}\n"
SHAPED = frozenset({"pattern", "format", "$ref", "allOf", "anyOf", "oneOf", "not", "if"})
"""What makes more of a string than its length."""
PLAIN = frozenset({"type", "properties", "required", "additionalProperties", "$defs", "definitions", "$schema", "$id"})
TOLD = frozenset({"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment"})
"""Of no effect on what is valid."""
LITERALS: Mapping[str, bool | None] = {"true": True, "false": False, "none": None}
"""As Python writes them, which models do."""


def kinds_of(schema: Schema) -> frozenset[str]:
    """JSON's types that a value may have; empty where nothing tells."""
    told = schema.get("type")
    if isinstance(told, str | list):
        return frozenset([told] if isinstance(told, str) else map(str, told))
    if "const" in schema or isinstance(schema.get("enum"), list):
        values = [schema["const"]] if "const" in schema else cast("list[JsonValue]", schema["enum"])
        return frozenset(kind for value in values for kind in kinds_of_value(value))
    kinds: set[str] = set()
    for name in ("anyOf", "oneOf"):
        for one in cast("list[JsonValue]", schema.get(name) or []):
            kinds |= kinds_of(one) if isinstance(one, dict) else set()
    return frozenset(kinds)


def kinds_of_value(value: JsonValue) -> tuple[str, ...]:
    match value:
        case None:
            return ("null",)
        case bool():
            return ("boolean",)
        case int():
            return ("integer", "number")
        case float():
            return ("number", "integer") if value.is_integer() else ("number",)
        case str():
            return ("string",)
        case list():
            return ("array",)
        case dict():
            return ("object",)


def is_bare(schema: JsonValue) -> bool:
    """Whether a value stands as it is, without quotes."""
    return isinstance(schema, dict) and kinds_of(schema) == frozenset(["string"]) and not SHAPED & schema.keys()


def properties_of(schema: Schema) -> Mapping[str, JsonValue] | None:
    """Of a plain object; None where elements cannot tell all that the schema asks for."""
    properties = schema.get("properties") or {}
    if not isinstance(properties, dict) or schema.keys() - PLAIN - TOLD:
        return None
    if not properties and schema.get("additionalProperties") is not False:
        return None
    if any(">" in name or "\n" in name or not name for name in properties):
        return None
    return properties


# Writing: rules of a grammar.


def elements_grammar(rule: str, schema: Schema, as_json: Callable[[JsonValue], str]) -> tuple[str, str]:
    """How arguments are named in a rule, and the rules themselves; `as_json` gives the text of a schema."""
    properties = properties_of(schema)
    if properties is None:
        return f'{rule} "\\n"', f"{rule}: %json {as_json(dict(schema))}\n"
    needed = schema.get("required")
    required = cast("list[JsonValue]", needed if isinstance(needed, list) else [])
    places = {name: schema[name] for name in ("$defs", "definitions") if name in schema}
    names: list[str] = []
    rules: list[str] = []
    for number, (key, one) in enumerate(properties.items()):
        name = f"{rule}_{number}"
        names.append(name if key in required else f"{name}?")
        rules.append(f"{name}: {literal(f'{OPEN}{key}>' + chr(10))} {value_rules(name, one, places, as_json)}")
    return " ".join(names), "".join(rules)


def value_rules(name: str, schema: JsonValue, places: Schema, as_json: Callable[[JsonValue], str]) -> str:
    """The rest of a rule, and what it stands on."""
    own = schema if isinstance(schema, dict) else {}
    if not is_bare(own):
        return f"{name}_v {literal(AFTER)}\n{name}_v: %json {as_json({**own, **places})}\n"
    words = [own["const"]] if "const" in own else own.get("enum")
    if isinstance(words, list):
        return f"({' | '.join(literal(str(one)) for one in words)}) {literal(AFTER)}\n"
    least, most = own.get("minLength") or 0, own.get("maxLength")
    return f"{name}_v\n{name}_v[suffix={literal(AFTER)}]: /(?s:.{{{least},{'' if most is None else most}}})/\n"


def literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


# Reading.


def end_of_calls(text: str, mark: str, start: int) -> int:
    """Where the mark stands that ends the calls, which may also be written within a value; -1 where it does not yet.

    `start`: before it no mark is the one; what follows a mark makes no other of it.
    """
    at = text.find(mark, start)
    while at >= 0 and text.rfind(OPEN, 0, at) > text.rfind(CLOSE, 0, at):
        at = text.find(mark, at + 1)
    return at


def read_calls(text: str, tools: Sequence[Tool]) -> list[tuple[str, str]]:
    """Name and arguments of each call; none where anything in the text is no call."""
    calls: list[tuple[str, str]] = []
    rest = text
    while rest.strip():
        head = FUNCTION.match(rest)
        if head is None:
            return []
        rest = rest[head.end() :]
        if rest.startswith("{"):
            told, ended, rest = rest.partition(END)
            arguments = as_object(told)
        else:
            arguments, rest = read_elements(rest, parameters_of(head[1], tools))
            ended, rest = rest.startswith(END), rest.removeprefix(END)
        if arguments is None or not ended:
            return []
        calls.append((head[1], json.dumps(arguments, ensure_ascii=False)))
    return calls


def read_elements(text: str, parameters: Schema) -> tuple[dict[str, JsonValue], str]:
    """The values by their names, and what stands behind the last whole one."""
    values: dict[str, JsonValue] = {}
    while found := PARAMETER.match(text):
        values[found[1]] = value_of(found[2], parameters.get(found[1]))
        text = text[found.end() :]
    return values, text


def begun_call(text: str, tools: Sequence[Tool]) -> tuple[str, str] | None:
    """Of a text that was cut off: name and the arguments so far, the beginning of a JSON object."""
    head = FUNCTION.match(text)
    if head is None:
        return None
    rest = text[head.end() :]
    if rest.startswith("{"):
        return head[1], rest
    parameters = parameters_of(head[1], tools)
    values, rest = read_elements(rest, parameters)
    opened = OPENED.match(rest)
    if opened and is_bare(parameters.get(opened[1])):
        return head[1], json.dumps({**values, opened[1]: opened[2]}, ensure_ascii=False)[:-2]
    return head[1], json.dumps(values, ensure_ascii=False)[:-1]


def parameters_of(name: str, tools: Sequence[Tool]) -> Schema:
    found = next((tool.parameters.get("properties") for tool in tools if tool.name == name), None)
    return found if isinstance(found, dict) else {}


def value_of(text: str, schema: JsonValue) -> JsonValue:
    """As the tool's schema has it; what is nothing that it could be stays the text that it is."""
    if is_bare(schema):
        return text
    kinds = kinds_of(schema) if isinstance(schema, dict) else frozenset[str]()
    try:
        value = cast("JsonValue", json.loads(text, parse_constant=refuse_constant))
    except (ValueError, RecursionError):
        word = text.strip().lower()
        if word not in LITERALS or not kinds & {*kinds_of_value(LITERALS[word])}:
            return text
        value = LITERALS[word]
    return text if "string" in kinds and not kinds & {*kinds_of_value(value)} else value


def as_object(text: str) -> dict[str, JsonValue] | None:
    try:
        value = cast("JsonValue", json.loads(text, parse_constant=refuse_constant))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def refuse_constant(name: str) -> JsonValue:
    """NaN and its like are no JSON."""
    raise ValueError(name)
