"""What of a JSON schema is enforced, what is dropped by name, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from atrium.core.errors import InvalidSchema
from atrium.decisions.enforce_schema import CONSTRAINING, Enforced, enforce_schema


def enforced(schema: Any, *, strict: bool = False) -> Enforced:
    return enforce_schema(schema, strict=strict, place="response_format")


def obj(*required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


KEPT: list[Any] = [
    {"type": ["string", "null"]},
    {"enum": ["a", 1, None]},
    {"const": {"x": 1}},
    {"type": "array", "prefixItems": [{"type": "integer"}], "items": False, "minItems": 1, "maxItems": 3},
    {"type": "string", "minLength": 1, "maxLength": 9, "pattern": "^a+$", "format": "uuid"},
    {"type": "integer", "minimum": 1, "maximum": 9, "exclusiveMinimum": 0, "exclusiveMaximum": 10},
    {"type": "object", "properties": {"a": {}}, "required": ["a"], "additionalProperties": {"type": "string"}},
    {"anyOf": [{"type": "string"}, {"type": "null"}]},
    {"allOf": [{"type": "object", "required": ["a"]}, {"type": "object", "properties": {"a": {}}}]},
]


@pytest.mark.parametrize("schema", KEPT, ids=str)
def test_keywords_of_the_list_stay_as_they_are(schema: Any) -> None:
    assert enforced(schema, strict=True) == Enforced(schema)


@pytest.mark.parametrize("keyword", sorted(CONSTRAINING))
def test_another_keyword_is_dropped_by_name_and_refused_where_strict(keyword: str) -> None:
    values: dict[str, Any] = {
        "uniqueItems": True,
        "multipleOf": 3,
        "patternProperties": {"^a": {}},
        "dependentRequired": {"a": ["b"]},
        "dependentSchemas": {"a": {}},
        "dependencies": {"a": ["b"]},
        "$dynamicRef": "#a",
        "$recursiveRef": "#",
    }
    numbers = ("minContains", "maxContains", "minProperties", "maxProperties")
    schema = {"type": "object", keyword: values.get(keyword, 1 if keyword in numbers else {"type": "string"})}
    assert enforced(schema) == Enforced({"type": "object"}, (keyword,))
    with pytest.raises(InvalidSchema, match=f"'{keyword.replace('$', '[$]')}'") as refused:
        enforced({"type": "array", "items": schema}, strict=True)
    assert refused.value.param == "response_format"


def test_a_format_that_is_not_known_is_dropped() -> None:
    assert enforced({"type": "string", "format": "colour"}) == Enforced({"type": "string"}, ("format",))
    assert enforced({"type": "string", "format": "date-time"}, strict=True).schema["format"] == "date-time"


def test_annotations_are_of_no_matter() -> None:
    noted = {
        "title": "T",
        "description": "d",
        "default": 1,
        "examples": [1],
        "$comment": "c",
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "x-guidance": {"coerce_one_of": True},
        "discriminator": {"propertyName": "kind"},
        "type": "integer",
    }
    assert enforced(noted, strict=True) == Enforced({"type": "integer"})


def test_an_object_gets_no_properties_that_it_does_not_name() -> None:
    assert enforced(obj("a", "b", a={"type": "string"})).schema["additionalProperties"] is False
    assert enforced(obj("a", "b", a={})).schema["properties"] == {"a": {}, "b": {}}
    assert "additionalProperties" not in enforced({"type": "object"}).schema
    composed: Any = {**obj("a", a={}), "anyOf": [obj("b", b={}), obj("c", c={})]}
    assert "False" not in str(enforced(composed)), "another branch may name what this one does not"


def test_one_of_several_that_exclude_each_other_is_any_of_them() -> None:
    by_kind = [obj("k", k={"const": name}, **{name: {"type": "integer"}}) for name in ("cat", "dog")]
    by_need = [obj("a", a={}), obj("b", b={})]
    referred: Any = {
        "oneOf": [{"$ref": "#/$defs/c"}, {"$ref": "#/$defs/d"}],
        "$defs": dict(zip("cd", by_kind, strict=True)),
    }
    several: list[Any] = [
        {"oneOf": by_kind},
        {"oneOf": by_need},
        {"oneOf": [{"type": "string"}, {"type": "null"}]},
        referred,
    ]
    for schema in several:
        assert "anyOf" in enforced(schema).schema


@pytest.mark.parametrize(
    ("branches", "admitted"),
    [
        ([{"type": "integer"}, {"minimum": 2}], "no number"),
        ([{"minLength": 2}, {"maxLength": 4}], "a"),
        ([{"minLength": 2}, {"maxLength": 4}], "abcde"),
        ([obj("a", "b"), obj("a", "c")], {"a": 1, "c": 2}),
        ([{"const": "cat"}, {"type": "string"}], "a dog"),
        ([{"maximum": 3}, {"minimum": 2}], 5),
    ],
)
def test_of_branches_that_overlap_what_they_share_is_left_out(branches: Any, admitted: Any) -> None:
    made = enforced({"oneOf": branches}, strict=True)
    assert valid(made.schema, admitted)


@pytest.mark.parametrize("names", [("oneOf", "anyOf"), ("anyOf", "oneOf")])
def test_both_kinds_of_branches_hold_whichever_comes_first(names: tuple[str, str]) -> None:
    made = enforced({names[0]: [{"type": "null"}], names[1]: [{"type": "null"}, {"type": "string"}]})
    assert valid(made.schema, None)
    assert not valid(made.schema, "a")
    anything: Any = {}
    wide: Any = {"oneOf": [{"type": "null"}], "anyOf": [anything]}
    assert not valid(enforced(wide).schema, [])


def test_branches_that_cannot_be_told_apart_are_refused() -> None:
    with pytest.raises(InvalidSchema, match="told apart"):
        enforced({"oneOf": [{}, {"title": "the same"}]})


def test_references_lead_to_definitions_of_their_own() -> None:
    schema: Any = {
        "properties": {"tree": {"$ref": "#/definitions/a~1b%20c"}},
        "definitions": {"a/b c": obj("left", left={"anyOf": [{"$ref": "#/definitions/a~1b%20c"}, {"type": "null"}]})},
        "$defs": {"unused": {"not": {}}},
    }
    made = enforced(schema, strict=True).schema
    assert made["properties"] == {"tree": {"$ref": "#/$defs/0"}}
    assert list(made["$defs"]) == ["0"]  # type: ignore[arg-type]


def test_tuples_of_older_drafts_are_understood() -> None:
    schema = {"type": "array", "items": [{"type": "integer"}], "additionalItems": False}
    assert enforced(schema).schema == {"type": "array", "prefixItems": [{"type": "integer"}], "items": False}


def nested(levels: int) -> Any:
    schema: Any = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        (False, "admits nothing"),
        ([], "not an object"),
        ({"type": "nonsense"}, "invalid at"),
        ({"properties": 7}, "invalid at"),
        ({"$ref": "#/$defs/nowhere"}, "leads nowhere"),
        ({"$ref": "https://example.org/schema"}, "leads out"),
        ({"$ref": "#"}, "without end"),
        ({"allOf": [{"$ref": "#"}]}, "without end"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}, "without end"),
        ({"$ref": "#/$defs/a", "$defs": {"a": obj("a", a={"$ref": "#/$defs/a"})}}, "no finite value"),
        (
            {"$ref": "#/$defs/a", "$defs": {"a": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/a"}}}},
            "no finite value",
        ),
        (nested(70), "levels deep"),
        (nested(190), "levels deep"),
        ({"enum": [str(n) for n in range(30_000)]}, "hold more than"),
        ({"anyOf": [{"type": "string"}] * 30_000}, "parts"),
        ({"type": "array", "minItems": 10**9}, "demands more"),
        ({"type": "string", "minLength": 10**9}, "demands more"),
    ],
    ids=range(17),
)
def test_a_schema_that_explodes_or_has_no_end_is_refused(schema: Any, why: str) -> None:
    with pytest.raises(InvalidSchema, match=why):
        enforced(schema)


def test_ten_thousand_values_and_a_recursion_that_ends_are_fine() -> None:
    assert enforced({"enum": [str(n) for n in range(10_000)]})
    assert enforced({"$ref": "#/$defs/a", "$defs": {"a": obj(next={"$ref": "#/$defs/a"})}})
    assert enforced({"type": "string", "maxLength": 10**9}).schema == {"type": "string"}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "ab"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=5,
)
KINDS = st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"])
SCHEMAS: st.SearchStrategy[Any] = st.recursive(
    st.fixed_dictionaries(
        {}, optional={"type": KINDS, "enum": st.lists(VALUES, min_size=1, max_size=3), "minLength": st.integers(0, 2)}
    ),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "type": KINDS,
            "properties": st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
            "required": st.lists(st.sampled_from("ab"), max_size=2, unique=True),
            "additionalProperties": inner | st.booleans(),
            "items": inner,
            "anyOf": st.lists(inner, min_size=1, max_size=2),
            "oneOf": st.lists(inner, min_size=1, max_size=2),
            "allOf": st.lists(inner, min_size=1, max_size=2),
        },
    ),
    max_leaves=6,
)


@settings(max_examples=300)
@given(SCHEMAS, VALUES)
def test_whatever_is_enforced_admits_only_what_was_asked_for(schema: Any, value: Any) -> None:
    try:
        made = enforced(schema, strict=True)
    except InvalidSchema:
        return
    if valid(made.schema, value):
        assert valid(schema, value)


def valid(schema: Any, value: Any) -> bool:
    judge: Any = Draft202012Validator(schema)
    return judge.is_valid(value)


@pytest.mark.parametrize("first", ["oneOf", "anyOf"])
def test_one_of_and_any_of_both_hold_whichever_comes_first(first: str) -> None:
    both: dict[str, Any] = {"oneOf": [{}], "anyOf": [{"type": "null"}]}
    made = enforced({first: both[first], **both}, strict=True).schema
    assert valid(made, None)
    assert not valid(made, [])
