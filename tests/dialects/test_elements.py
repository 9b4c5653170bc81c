"""Calls whose arguments are elements, as Qwen's coders write them: enforced, read wherever they are cut, typed."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from llguidance import LLMatcher, LLTokenizer

from atrium.core.answers import CallBegun, CallPiece, Event, TextPiece
from atrium.core.requests import FreeText, JsonValue, Tool, ToolMode, ToolUse
from atrium.dialects.llamacpp.calls import CallReader
from atrium.dialects.llamacpp.grammar import Frame, answer_grammar
from atrium.dialects.llamacpp.markups import ELEMENTS, HERMES, markup_of

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "path": {"type": "string"},
        "line": {"type": "integer"},
        "share": {"type": "number"},
        "deep": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "place": {"$ref": "#/$defs/place"},
        "mode": {"type": "string", "enum": ["read", "write"]},
        "note": {"type": ["string", "null"]},
        "day": {"type": "string", "format": "date"},
        "short": {"type": "string", "minLength": 2, "maxLength": 4},
        "any": {},
    },
    "required": ["path"],
    "$defs": {"place": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}},
}
EDIT = Tool("edit", "", SCHEMA)
TOOLS = (EDIT, Tool("now", "", {}), Tool("free", "", {"type": "object", "additionalProperties": {"type": "integer"}}))
TOKENIZER = LLTokenizer("byte")


def written(name: str, **values: str) -> str:
    inner = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in values.items())
    return f"<tool_call>\n<function={name}>\n{inner}</function>\n</tool_call>"


def read(*pieces: str, cut: bool = False, tools: tuple[Tool, ...] = TOOLS) -> list[Event]:
    reader = CallReader(0, lambda index: f"call_{index}", ELEMENTS, tools)
    return [event for piece in pieces for event in reader.feed(piece)] + reader.flush(cut=cut)


def texts_of(events: list[Event]) -> list[tuple[str, str]]:
    names = {event.index: event.name for event in events if isinstance(event, CallBegun)}
    texts = dict.fromkeys(names, "")
    for event in events:
        if isinstance(event, CallPiece):
            texts[event.index] += event.text
    return [(name, texts[index]) for index, name in names.items()]


def calls_of(events: list[Event]) -> list[tuple[str, Any]]:
    return [(name, json.loads(text)) for name, text in texts_of(events)]


def words_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextPiece))


def admitted(text: str, mode: ToolMode = ToolMode.REQUIRED, tools: tuple[Tool, ...] = TOOLS) -> bool:
    matcher = LLMatcher(TOKENIZER, answer_grammar(FreeText(), ToolUse(tools, mode), Frame(10_000, markup=ELEMENTS)))
    assert not matcher.is_error(), matcher.get_error()
    tokens = TOKENIZER.tokenize_str(text)
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


def test_the_template_tells_the_form() -> None:
    assert markup_of("{{ tools }}<tool_call>\n<function=name>") == ELEMENTS
    assert markup_of("{{ tools }}<tool_call>") == HERMES


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("path", "12", "12"),
        ("path", '"quoted"', '"quoted"'),
        ("path", "", ""),
        ("path", "\n two\nlines \n", "\n two\nlines \n"),
        ("path", "<b>no</b> </function> </tool_call> <tool_call>", "<b>no</b> </function> </tool_call> <tool_call>"),
        ("path", "a</parameter>b", "a</parameter>b"),
        ("line", "12", 12),
        ("line", " 12 ", 12),
        ("line", "twelve", "twelve"),
        ("share", "0.5", 0.5),
        ("share", "NaN", "NaN"),
        ("deep", "true", True),
        ("deep", "False", False),
        ("tags", '["a", "b"]', ["a", "b"]),
        ("place", '{"x": 1}', {"x": 1}),
        ("mode", "read", "read"),
        ("note", "null", None),
        ("note", "None", None),
        ("note", '"null"', "null"),
        ("note", "12", "12"),
        ("note", "plain", "plain"),
        ("day", '"2026-01-02"', "2026-01-02"),
        ("day", "2026-01-02", "2026-01-02"),
        ("any", "[1]", [1]),
        ("any", "word", "word"),
        ("unheard", "5", 5),
    ],
)
def test_values_have_the_types_of_the_tools_schema(key: str, text: str, value: JsonValue) -> None:
    events = read(written("edit", **{key: text}))
    assert calls_of(events) == [("edit", {key: value})]
    assert words_of(events) == ""


ROW = (
    "Let me see.\n"
    + written("edit", path="<tool_call> é </tool_call>\n", line="3", note="null")
    + "\n"
    + written("now")
    + "\n"
    + written("edit", path="b", tags='["</parameter>"]')
)
ROW_CALLS: list[tuple[str, Any]] = [
    ("edit", {"path": "<tool_call> é </tool_call>\n", "line": 3, "note": None}),
    ("now", {}),
    ("edit", {"path": "b", "tags": ["</parameter>"]}),
]


@settings(max_examples=200, deadline=None)
@given(st.sets(st.integers(1, len(ROW) - 1)))
def test_any_split_of_the_stream_gives_the_same_calls(cuts: set[int]) -> None:
    edges = [0, *sorted(cuts), len(ROW)]
    events = read(*(ROW[low:high] for low, high in pairwise(edges)))
    assert calls_of(events) == ROW_CALLS
    assert words_of(events) == "Let me see.\n"


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>\n<function=edit>\nwords\n</function>\n</tool_call>",
        "<tool_call>\n<function=edit>\n<parameter=path>\na\n</parameter>\n</tool_call>",
        "<tool_call>\nnothing\n</tool_call>",
        "<tool_call>\n<function=edit>\n<parameter=path>\na\n</parameter>\n</function>\nmore</tool_call>",
        "<tool_call>\n<function=edit>\n<parameter=path>\na",
        "<tool_call>\n<function=free>\n[1]\n</function>\n</tool_call>",
        "<tool_cal",
    ],
)
def test_what_is_no_call_stays_the_text_that_it_is(text: str) -> None:
    for cut in range(len(text)):
        events = read(text[:cut], text[cut:])
        assert words_of(events) == text
        assert not calls_of(events)


def test_an_older_form_is_read_as_well() -> None:
    assert calls_of(read('<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>')) == [("now", {})]


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("<tool_call>\n<function=edit>\n", "{"),
        ("<tool_call>\n<function=edit>\n<parameter=line>\n3\n</parameter>\n<parameter=sha", '{"line": 3'),
        (
            '<tool_call>\n<function=edit>\n<parameter=line>\n3\n</parameter>\n<parameter=path>\na"b',
            '{"line": 3, "path": "a\\"b',
        ),
        ("<tool_call>\n<function=edit>\n<parameter=line>\n3", "{"),
        ('<tool_call>\n<function=free>\n{"a": 1', '{"a": 1'),
    ],
)
def test_a_call_that_was_cut_off_tells_how_far_it_came(text: str, arguments: str) -> None:
    events = read(*text, cut=True)
    ((_, told),) = texts_of(events)
    assert (told, words_of(events)) == (arguments, "")


@pytest.mark.parametrize(
    ("name", "values", "fits"),
    [
        ("edit", {"path": "</tool_call> any\n\ntext"}, True),
        ("edit", {"path": ""}, True),
        ("edit", {"line": "1"}, False),
        ("edit", {"path": "a", "line": "1"}, True),
        ("edit", {"path": "a", "line": "one"}, False),
        ("edit", {"path": "a", "share": "0.5", "deep": "true", "tags": '["x"]', "place": '{"x":1}'}, True),
        ("edit", {"path": "a", "place": '{"y":1}'}, False),
        ("edit", {"path": "a", "mode": "write"}, True),
        ("edit", {"path": "a", "mode": "burn"}, False),
        ("edit", {"path": "a", "note": "null"}, True),
        ("edit", {"path": "a", "note": '"b"'}, True),
        ("edit", {"path": "a", "day": '"2026-01-02"'}, True),
        ("edit", {"path": "a", "day": '"soon"'}, False),
        ("edit", {"path": "a", "short": "four"}, True),
        ("edit", {"path": "a", "short": "fiver"}, False),
        ("edit", {"path": "a", "short": "1"}, False),
        ("edit", {"path": "a", "any": "[1]"}, True),
        ("edit", {"path": "a", "other": "1"}, False),
        ("now", {}, True),
        ("now", {"a": "1"}, False),
    ],
)
def test_what_is_enforced_is_what_is_read(name: str, values: dict[str, str], fits: bool) -> None:
    text = written(name, **values)
    assert admitted(text) is fits
    if fits:
        ((_, arguments),) = calls_of(read(text))
        validator: Any = Draft202012Validator(SCHEMA if name == "edit" else {"maxProperties": 0})
        validator.validate(arguments)


def test_arguments_that_are_no_plain_object_stand_as_json() -> None:
    text = '<tool_call>\n<function=free>\n{"a":1}\n</function>\n</tool_call>'
    assert admitted(text)
    assert not admitted(text.replace("1", '"one"'))
    assert calls_of(read(*text)) == [("free", {"a": 1})]


def test_words_may_stand_before_calls_only_where_none_is_demanded() -> None:
    text = f"Well. {written('now')}\n{written('now')}"
    assert admitted(text, ToolMode.AUTO)
    assert not admitted(text)
    assert admitted("Hello there.", ToolMode.AUTO)
