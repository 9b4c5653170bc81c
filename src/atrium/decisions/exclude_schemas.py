"""What branches of a `oneOf` do not have in common, as far as that is plain to see."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from atrium.core.requests import JsonValue

Met = Callable[[JsonValue], JsonValue]
DEEPEST = 8


@dataclass(frozen=True, slots=True)
class Branch:
    given: JsonValue
    """What counts when an answer is judged."""
    made: JsonValue
    """What the answer is written by; it admits no more."""


def apart(one: Branch, other: Branch, met: Met) -> bool:
    """Nothing that is written by either is admitted by the other. `met` follows references."""
    if excludes(one.given, other.given, met, DEEPEST):
        return True
    return lacks(one.made, other.given) and lacks(other.made, one.given)


def lacks(made: JsonValue, given: JsonValue) -> bool:
    """`given` demands a property that is not to be had by `made`."""
    if not isinstance(made, dict) or not isinstance(given, dict) or made.get("type") != "object":
        return False
    properties = made.get("properties")
    if made.get("additionalProperties") is not False or not isinstance(properties, dict):
        return False
    return given.get("type") == "object" and bool(required(given) - properties.keys())


def excludes(one: JsonValue, other: JsonValue, met: Met, depth: int) -> bool:
    one, other = met(one), met(other)
    if not isinstance(one, dict) or not isinstance(other, dict) or not depth:
        return False
    if not kinds(one) & kinds(other):
        return True
    first, second = listed(one), listed(other)
    if first is not None and second is not None:
        return not any(same(a, b) for a in first for b in second)
    if one.get("type") != "object" or other.get("type") != "object":
        return False
    mine, theirs = members(one), members(other)
    shared = (required(one) | required(other)) & mine.keys() & theirs.keys()
    return any(excludes(mine[name], theirs[name], met, depth - 1) for name in shared)


ALL_KINDS = frozenset({"null", "boolean", "number", "string", "array", "object"})


def kinds(schema: Mapping[str, JsonValue]) -> frozenset[str]:
    """Types that a value may have; a whole number is a number."""
    named = schema.get("type")
    if named is None:
        values = listed(schema)
        return ALL_KINDS if values is None else frozenset(kind_of(value) for value in values)
    several = named if isinstance(named, list) else [named]
    return frozenset("number" if one == "integer" else str(one) for one in several)


def kind_of(value: JsonValue) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "string"
    if isinstance(value, list):
        return "array"
    return "object" if isinstance(value, dict) else "number"


def listed(schema: Mapping[str, JsonValue]) -> list[JsonValue] | None:
    """The values that are admitted, where they are listed."""
    if "const" in schema:
        return [schema["const"]]
    values = schema.get("enum")
    return values if isinstance(values, list) else None


def same(one: JsonValue, other: JsonValue) -> bool:
    """Equal as JSON: true is not 1."""
    return kind_of(one) == kind_of(other) and one == other


def members(schema: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
    properties = schema.get("properties")
    return properties if isinstance(properties, dict) else {}


def required(schema: Mapping[str, JsonValue]) -> frozenset[str]:
    names = schema.get("required")
    return frozenset(name for name in names if isinstance(name, str)) if isinstance(names, list) else frozenset()


def outside(schema: JsonValue, met: Met, depth: int = DEEPEST) -> list[dict[str, JsonValue]]:
    """Schemas that admit nothing which `schema` admits; together perhaps less than all there is outside of it."""
    schema = met(schema)
    if schema is False:
        return [{}]
    if not isinstance(schema, dict) or not depth:
        return []
    found: list[dict[str, JsonValue]] = []
    other = ALL_KINDS - kinds(schema)
    if other:
        found.append({"type": list[JsonValue](sorted(other))})
    for name, opposite in OPPOSITES.items():
        bound = schema.get(name)
        if isinstance(bound, int | float):
            found += opposite(int(bound) if name in COUNTS else bound)
    values = listed(schema)
    if values is not None and all(isinstance(value, str) for value in values):
        found.append({"type": "string", "minLength": max(len(str(value)) for value in values) + 1})
    for name in sorted(required(schema)):
        found.append({"type": "object", "properties": {name: False}})
    for name, inner in members(schema).items():
        for one in outside(inner, met, depth - 1):
            found.append({"type": "object", "properties": {name: one}, "required": [name]})
    return found


Opposite = Callable[[float], list[dict[str, JsonValue]]]
COUNTS = frozenset({"minLength", "maxLength", "minItems", "maxItems"})
OPPOSITES: Mapping[str, Opposite] = {
    "minLength": lambda least: [{"type": "string", "maxLength": least - 1}] if least > 0 else [],
    "maxLength": lambda most: [{"type": "string", "minLength": most + 1}],
    "minItems": lambda least: [{"type": "array", "maxItems": least - 1}] if least > 0 else [],
    "maxItems": lambda most: [{"type": "array", "minItems": most + 1}],
    "minimum": lambda least: [{"type": "number", "exclusiveMaximum": least}],
    "maximum": lambda most: [{"type": "number", "exclusiveMinimum": most}],
    "exclusiveMinimum": lambda least: [{"type": "number", "maximum": least}],
    "exclusiveMaximum": lambda most: [{"type": "number", "minimum": most}],
}
"""What a bound leaves out."""
