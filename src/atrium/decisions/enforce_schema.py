"""Which part of a JSON schema can be enforced while a model writes, and the rest by name.

The keywords are those of contract `openai.md`, section 3.4. What comes out holds nothing but them: annotations are
gone, every `$ref` leads to a definition of its own, and whatever it admits the schema that was given admits too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from jsonschema import Draft7Validator, Draft202012Validator
from jsonschema.exceptions import SchemaError

from atrium.core.errors import InvalidSchema
from atrium.core.requests import JsonValue
from atrium.decisions.exclude_schemas import Branch, apart, outside

Schema = dict[str, JsonValue]
DEEPEST = 64
MOST_NODES = 20_000
MOST_MEMBERS = 20_000
"""Values of all `enum` lists together."""
MOST_REPEATED = 100_000
"""Characters or items that may be demanded of one value. More than so many are never forbidden either: no window
holds an answer of that length."""
KEPT = frozenset(
    {"type", "required", "enum", "const", "pattern", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
)
LEAST, MOST = ("minItems", "minLength"), ("maxItems", "maxLength")
IN_PLACE = ("$ref", "allOf", "anyOf", "oneOf")
FORMATS = frozenset(
    {"date", "time", "date-time", "uuid", "duration", "email", "hostname", "ipv4", "ipv6", "uri"},
)
CONSTRAINING = frozenset(
    {
        "not",
        "if",
        "then",
        "else",
        "contains",
        "minContains",
        "maxContains",
        "uniqueItems",
        "multipleOf",
        "patternProperties",
        "propertyNames",
        "minProperties",
        "maxProperties",
        "dependentRequired",
        "dependentSchemas",
        "dependencies",
        "unevaluatedItems",
        "unevaluatedProperties",
        "$dynamicRef",
        "$recursiveRef",
    }
)
"""Keywords that narrow what is valid and that cannot be enforced."""


@dataclass(frozen=True, slots=True)
class Enforced:
    schema: Schema
    dropped: tuple[str, ...] = ()
    """Keywords that are not enforced, each once, in the order in which they stand."""


def enforce_schema(schema: JsonValue, *, strict: bool, place: str) -> Enforced:
    """Raises InvalidSchema for what is no schema, admits nothing, has no end, or where `strict` cannot be enforced."""
    if schema is False:
        raise InvalidSchema("The schema admits nothing", param=place)
    given: JsonValue = {} if schema is True else schema
    if not isinstance(given, dict):
        raise InvalidSchema("The schema is not an object", param=place)
    check_size(given, place)
    check_schema(given, place)
    return Reduction(given, place, strict=strict).run()


def check_size(schema: JsonValue, place: str) -> None:
    """Level by level, so that nothing is too deep to be looked at. Raises InvalidSchema."""
    level: list[JsonValue] = [schema]
    nodes = 0
    for _ in range(DEEPEST + 1):
        deeper: list[JsonValue] = []
        for value in level:
            inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
            deeper += [one for one in inner if isinstance(one, dict | list)]
        nodes += len(deeper)
        if nodes > MOST_NODES:
            raise InvalidSchema(f"A schema has more than {MOST_NODES} parts", param=place)
        if not deeper:
            return
        level = deeper
    raise InvalidSchema(f"A schema is nested more than {DEEPEST} levels deep", param=place)


def check_schema(schema: Schema, place: str) -> None:
    """By the newest draft, or by draft 7, whose tuples are still written. Raises InvalidSchema."""
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        if is_older(schema):
            return
        where = "/".join(str(part) for part in error.absolute_path)
        raise InvalidSchema(f"The schema is invalid at '/{where}': {error.message[:300]}", param=place) from None


def is_older(schema: Schema) -> bool:
    """Whether it is a schema by draft 7."""
    try:
        Draft7Validator.check_schema(schema)
    except SchemaError:
        return False
    return True


@dataclass(slots=True)
class Reduction:
    """One walk over one schema.

    `whole` of a part: nothing but this part constrains the value, so that it may be narrowed.
    """

    root: Schema
    place: str
    strict: bool
    dropped: dict[str, None] = field(default_factory=dict[str, None])
    names: dict[tuple[str, bool], str] = field(default_factory=dict[tuple[str, bool], str])
    made: dict[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    members: int = 0

    def run(self) -> Enforced:
        schema = self.reduced(self.root, (), whole=True)
        if self.made:
            schema["$defs"] = self.made
        if not has_end(schema):
            raise InvalidSchema("The schema admits no finite value", param=self.place)
        return Enforced(schema, tuple(self.dropped))

    def part(self, schema: JsonValue, inside: tuple[str, ...], *, whole: bool) -> JsonValue:
        """`inside`: the references that led here without going down into the value."""
        return self.reduced(schema, inside, whole=whole) if isinstance(schema, dict) else schema

    def reduced(self, schema: Schema, inside: tuple[str, ...], *, whole: bool) -> Schema:
        applied = [name for name in IN_PLACE if name in schema]
        alone = whole and not (applied and (len(applied) > 1 or constrains(schema)))
        out: Schema = {}
        # What `oneOf` comes to is joined to what `anyOf` asks for, whichever was written first.
        for name, value in sorted(schema.items(), key=lambda item: item[0] == "oneOf"):
            if name in KEPT:
                self.keep(out, name, value)
            elif name in LEAST or name in MOST:
                self.count(out, name, value)
            elif name in IN_PLACE:
                self.in_place(out, name, value, inside, whole=alone)
            elif name == "format":
                self.keep_format(out, value)
            elif name in CONSTRAINING:
                self.drop(name)
        self.descend(out, schema, whole=alone)
        if alone and not applied:
            narrow(out)
        return out

    def keep(self, out: Schema, name: str, value: JsonValue) -> None:
        if name == "enum" and isinstance(value, list):
            self.members += len(value)
            if self.members > MOST_MEMBERS:
                raise InvalidSchema(f"The lists of values hold more than {MOST_MEMBERS}", param=self.place)
        out[name] = value

    def count(self, out: Schema, name: str, value: JsonValue) -> None:
        if isinstance(value, int | float) and value > MOST_REPEATED:
            if name in LEAST:
                raise InvalidSchema(f"'{name}' demands more than {MOST_REPEATED}", param=self.place)
            return
        out[name] = int(value) if isinstance(value, float) else value

    def keep_format(self, out: Schema, value: JsonValue) -> None:
        if value in FORMATS:
            out["format"] = value
        else:
            self.drop("format")

    def drop(self, name: str) -> None:
        if self.strict:
            raise InvalidSchema(
                f"The keyword '{name}' cannot be enforced",
                hint="Leave it out, or send the schema without 'strict'",
                param=self.place,
            )
        self.dropped[name] = None

    def in_place(self, out: Schema, name: str, value: JsonValue, inside: tuple[str, ...], *, whole: bool) -> None:
        if name == "$ref":
            out["$ref"] = self.reference(str(value), inside, whole=whole)
            return
        given = value if isinstance(value, list) else []
        branches = [self.part(one, inside, whole=whole and name != "allOf") for one in given]
        if name == "oneOf":
            if not self.exclude(given, branches):
                branches = self.subtracted(given, inside)
            name = "anyOf"
        if name == "anyOf" and "anyOf" in out:
            several: dict[str, JsonValue] = {"anyOf": branches}
            name, branches = "allOf", [several]
        out[name] = [*as_list(out.get(name)), *branches]

    def exclude(self, given: list[JsonValue], branches: list[JsonValue]) -> bool:
        """Whether what one branch admits no other one does: then one of them is the same as any of them."""
        pairs = [Branch(self.met(one), self.written(made)) for one, made in zip(given, branches, strict=True)]
        return all(apart(one, other, self.met) for i, one in enumerate(pairs) for other in pairs[i + 1 :])

    def subtracted(self, given: list[JsonValue], inside: tuple[str, ...]) -> list[JsonValue]:
        """Each branch without what is plainly not outside of every other one.

        A narrowed branch would let through what two of the given ones admit, so none is. Raises InvalidSchema.
        """
        rests = [outside(one, self.met) for one in given]
        branches: list[JsonValue] = []
        for place, one in enumerate(given):
            others = [rest for index, rest in enumerate(rests) if index != place]
            if all(others):
                parts: list[JsonValue] = [{"anyOf": list[JsonValue](rest)} for rest in others]
                branches.append({"allOf": [self.part(one, inside, whole=False), *parts]})
        if not branches:
            raise InvalidSchema("The branches of 'oneOf' cannot be told apart", param=self.place)
        return branches

    def met(self, schema: JsonValue) -> JsonValue:
        """The given schema behind a reference that stands alone."""
        for _ in range(DEEPEST):
            if not (isinstance(schema, dict) and isinstance(schema.get("$ref"), str) and not constrains(schema)):
                return schema
            schema = find(self.root, str(schema["$ref"]), self.place)
        return schema

    def written(self, schema: JsonValue) -> JsonValue:
        """What was made of the schema behind a reference; of one that is still being made nothing is known."""
        for _ in range(DEEPEST):
            if not (isinstance(schema, dict) and isinstance(schema.get("$ref"), str)):
                return schema
            schema = self.made.get(str(schema["$ref"]).removeprefix("#/$defs/"), {})
        return schema

    def reference(self, pointer: str, inside: tuple[str, ...], *, whole: bool) -> str:
        if pointer in inside:
            raise InvalidSchema(f"The schema refers to itself without end at '{pointer[:200]}'", param=self.place)
        key = (pointer, whole)
        if key not in self.names:
            self.names[key] = f"{len(self.names)}"
            target = find(self.root, pointer, self.place)
            self.made[self.names[key]] = self.part(target, (*inside, pointer), whole=whole)
        return f"#/$defs/{self.names[key]}"

    def descend(self, out: Schema, schema: Schema, *, whole: bool) -> None:
        """Into the value: whatever refers back from there refers to a smaller value."""
        properties = schema.get("properties")
        if isinstance(properties, dict):
            out["properties"] = {name: self.part(one, (), whole=whole) for name, one in properties.items()}
        if "additionalProperties" in schema:
            out["additionalProperties"] = self.part(schema["additionalProperties"], (), whole=whole)
        items, rest = schema.get("items"), "items"
        first = schema.get("prefixItems")
        if isinstance(items, list):
            first, items, rest = items, schema.get("additionalItems"), "additionalItems"
        if isinstance(first, list):
            out["prefixItems"] = [self.part(one, (), whole=whole) for one in first]
        if rest in schema:
            out["items"] = self.part(items, (), whole=whole)


def as_list(value: JsonValue) -> list[JsonValue]:
    return value if isinstance(value, list) else []


def constrains(schema: Mapping[str, JsonValue]) -> bool:
    """Whether anything beside what applies in place says more than a type."""
    more = KEPT | frozenset((*LEAST, *MOST, "properties", "additionalProperties", "items", "prefixItems", "format"))
    return any(name in more and name != "type" for name in schema)


def narrow(schema: Schema) -> None:
    """An object that names its properties gets no others, unless it says so: small models would never end."""
    properties, required = schema.get("properties"), schema.get("required")
    if not isinstance(properties, dict) or not properties or "additionalProperties" in schema:
        return
    for name in as_list(required):
        if isinstance(name, str):
            properties.setdefault(name, {})
    schema["additionalProperties"] = False


def find(root: Schema, pointer: str, place: str) -> JsonValue:
    """What a JSON pointer in a fragment leads to. Raises InvalidSchema."""
    if pointer != "#" and not pointer.startswith("#/"):
        raise InvalidSchema(f"The reference '{pointer[:200]}' leads out of the schema", param=place)
    value: JsonValue = root
    for step in pointer[1:].split("/")[1:]:
        name = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            raise InvalidSchema(f"The reference '{pointer[:200]}' leads nowhere", param=place)
    if not isinstance(value, dict | bool):
        raise InvalidSchema(f"The reference '{pointer[:200]}' leads to what is no schema", param=place)
    return value


def has_end(schema: Schema) -> bool:
    """Whether some finite value is admitted, as far as references go: the least set that is closed under the rules."""
    defined = schema.get("$defs")
    definitions = defined if isinstance(defined, dict) else {}
    ended: set[str] = set()
    grown = True
    while grown:
        fresh = {name for name, one in definitions.items() if name not in ended and ends(one, ended)}
        ended |= fresh
        grown = bool(fresh)
    return ends({name: value for name, value in schema.items() if name != "$defs"}, ended)


def ends(schema: JsonValue, ended: set[str]) -> bool:
    if not isinstance(schema, dict):
        return schema is not False
    if isinstance(pointer := schema.get("$ref"), str) and pointer.removeprefix("#/$defs/") not in ended:
        return False
    if not all(ends(one, ended) for one in as_list(schema.get("allOf"))):
        return False
    for name in ("anyOf", "oneOf"):
        branches = as_list(schema.get(name))
        if branches and not any(ends(one, ended) for one in branches):
            return False
    return may_be_other(schema) or (members_end(schema, ended) and items_end(schema, ended))


def may_be_other(schema: Schema) -> bool:
    """Whether a value that has no parts is admitted, or one of a list."""
    if "enum" in schema or "const" in schema:
        return True
    kind = schema.get("type")
    kinds = kind if isinstance(kind, list) else [kind]
    return any(one not in ("object", "array") for one in kinds)


def members_end(schema: Schema, ended: set[str]) -> bool:
    properties = schema.get("properties")
    if not isinstance(properties, dict) or schema.get("type") != "object":
        return True
    return all(ends(properties.get(str(name), True), ended) for name in as_list(schema.get("required")))


def items_end(schema: Schema, ended: set[str]) -> bool:
    least = schema.get("minItems")
    if schema.get("type") != "array" or not isinstance(least, int | float):
        return True
    first = as_list(schema.get("prefixItems"))
    needed = first[: int(least)]
    if least > len(first):
        needed = [*needed, schema.get("items", True)]
    return all(ends(one, ended) for one in needed)
