"""The shortest thing that a simple grammar allows: `%llguidance` with literals, rules and `%json` schemas."""

from __future__ import annotations

import json
import re

from atrium.core.requests import JsonValue

RULE = re.compile(r"^(?P<name>[a-z_][a-z0-9_]*)\s*:\s*", re.MULTILINE)
NAME = re.compile(r"[a-z_][a-z0-9_]*")
TOKENS = re.compile(r"^start:((?: <\[\d+\]>)+)$", re.MULTILINE)
DEEPEST = 16


def forced_tokens(grammar: str) -> tuple[int, ...] | None:
    """Ids where the grammar names them one by one, else the bytes of its shortest text."""
    if named := TOKENS.search(grammar):
        return tuple(int(token) for token in re.findall(r"\d+", named[1]))
    text = shortest(grammar)
    return None if text is None else tuple(text.encode())


def shortest(grammar: str) -> str | None:
    """None where the grammar is beyond the fake."""
    starts = list(RULE.finditer(grammar))
    ends = [*(found.start() for found in starts[1:]), len(grammar)]
    rules = {found["name"]: grammar[found.end() : end].strip() for found, end in zip(starts, ends, strict=False)}
    return _expand("start", rules, 0)


def _expand(name: str, rules: dict[str, str], depth: int) -> str | None:
    if name not in rules or depth > DEEPEST:
        return None
    rest, said = rules[name], ""
    while rest := rest.lstrip():
        taken = _next_part(rest, rules, depth)
        if taken is None:
            return None
        text, length = taken
        said, rest = said + text, rest[length:]
    return said


def _next_part(rest: str, rules: dict[str, str], depth: int) -> tuple[str, int] | None:
    """The text of the first part and how many characters of the rule it took."""
    decoder = json.JSONDecoder()
    try:
        if rest.startswith('"'):
            literal, length = decoder.raw_decode(rest)
            return str(literal), length
        if rest.startswith("%json"):
            body = rest.removeprefix("%json").lstrip()
            schema, length = decoder.raw_decode(body)
            return json.dumps(instance(schema), separators=(",", ":")), len(rest) - len(body) + length
    except ValueError:
        return None
    found = NAME.match(rest)
    text = _expand(found[0], rules, depth + 1) if found else None
    return (text, len(found[0])) if found and text is not None else None


def instance(schema: JsonValue, depth: int = 0) -> JsonValue:
    """A small instance of a simple schema."""
    if not isinstance(schema, dict) or depth > DEEPEST:
        return {}
    if "const" in schema:
        return schema["const"]
    for word in ("enum", "anyOf", "oneOf"):
        choices = schema.get(word)
        if isinstance(choices, list) and choices:
            return choices[0] if word == "enum" else instance(choices[0], depth + 1)
    kind = schema.get("type")
    match kind[0] if isinstance(kind, list) and kind else kind:
        case "string":
            return "word".ljust(_number(schema, "minLength"), ".")
        case "integer" | "number":
            return _number(schema, "minimum")
        case "boolean":
            return True
        case "null":
            return None
        case "array":
            return [instance(schema.get("items"), depth + 1)] * _number(schema, "minItems")
        case _:
            return _an_object(schema, depth)


def _an_object(schema: dict[str, JsonValue], depth: int) -> JsonValue:
    properties, required = schema.get("properties"), schema.get("required")
    if not isinstance(properties, dict):
        return {}
    wanted = required if isinstance(required, list) else []
    return {name: instance(each, depth + 1) for name, each in properties.items() if name in wanted}


def _number(schema: dict[str, JsonValue], word: str) -> int:
    value = schema.get(word)
    return int(value) if isinstance(value, (int, float)) else 0
