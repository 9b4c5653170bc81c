"""Whether two branches of a `oneOf` can never admit the same value, as far as that is plain to see."""

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
