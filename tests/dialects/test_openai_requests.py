"""What a body means in OpenAI's dialect, field by field."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atrium.core.errors import BadRequest, InvalidJson, InvalidSchema, InvalidValue, Unsupported
from atrium.core.requests import FreeText, Gbnf, JsonObject, JsonSchema, Role, Think, ToolMode
from atrium.dialects.json_text import parse_object
from atrium.dialects.openai.dropped import dropped_names
from atrium.dialects.openai.request import RequestBounds, parse_chat, parse_completion, parse_embed

BOUNDS = RequestBounds()
USER = {"role": "user", "content": "hi"}


def allowed(*names: str, mode: str = "auto") -> dict[str, Any]:
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def chat(**fields: Any) -> bytes:
    return json.dumps({"messages": [USER], **fields}).encode()


def test_a_plain_chat_leaves_everything_to_the_model() -> None:
    read = parse_chat(chat(), BOUNDS)
    assert read.messages[0].role is Role.USER
    assert read.messages[0].text == "hi"
    assert read.sampling.max_tokens is None
    assert read.dropped == ()


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"max_tokens": 0}, None),
        ({"max_tokens": 7}, 7),
        ({"max_tokens": 7, "max_completion_tokens": 5}, 5),
        ({"max_tokens": 7.0}, 7),
        ({"max_tokens": None}, None),
    ],
)
def test_the_length_of_an_answer(fields: dict[str, Any], wanted: int | None) -> None:
    assert parse_chat(chat(**fields), BOUNDS).sampling.max_tokens == wanted


def test_unknown_fields_and_hints_are_named_in_request_order() -> None:
    read = parse_chat(chat(verbosity="low", zeta=1, seed=3, service_tier="auto", nothing=None), BOUNDS)
    assert read.dropped == ("verbosity", "zeta", "service_tier")


def test_all_text_parts_count_in_their_order() -> None:
    content = [
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": {"url": "data:x"}},
        {"type": "text", "text": "b"},
    ]
    (message,) = parse_chat(chat(messages=[{"role": "user", "content": content}]), BOUNDS).messages
    assert message.text == "ab"
    assert message.media[0].place == "messages[0].content[1]"


def test_an_answered_tool_call_is_understood() -> None:
    messages = [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "7"},
    ]
    read = parse_chat(chat(messages=messages, tools=[TOOL]), BOUNDS)
    assert read.messages[1].tool_calls[0].name == "f"
    assert read.messages[2].tool_call_id == "c1"


@pytest.mark.parametrize(
    ("fields", "mode", "most"),
    [
        ({}, ToolMode.AUTO, 8),
        ({"tool_choice": "none"}, ToolMode.NONE, 8),
        ({"tool_choice": "required"}, ToolMode.REQUIRED, 1),
        ({"tool_choice": "required", "parallel_tool_calls": True}, ToolMode.REQUIRED, 8),
        ({"tool_choice": "auto", "parallel_tool_calls": False}, ToolMode.AUTO, 1),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, ToolMode.NAMED, 1),
    ],
)
def test_how_tools_may_be_used(fields: dict[str, Any], mode: ToolMode, most: int) -> None:
    use = parse_chat(chat(tools=[TOOL], **fields), BOUNDS).tool_use
    assert (use.mode, use.most_calls) == (mode, most)


def test_of_many_tools_only_the_allowed_ones_may_be_called() -> None:
    other = {"type": "function", "function": {"name": "g"}}
    use = parse_chat(chat(tools=[TOOL, other], tool_choice=allowed("g", mode="required")), BOUNDS).tool_use
    assert [tool.name for tool in use.tools] == ["g"]
    assert use.mode is ToolMode.REQUIRED


@pytest.mark.parametrize(
    ("fields", "think"),
    [
        ({"reasoning_effort": "none"}, Think.OFF),
        ({"reasoning_effort": "minimal"}, Think.LOW),
        ({"reasoning_effort": "high"}, Think.HIGH),
        ({"thinking": True}, Think.ON),
        ({"thinking": {"type": "disabled"}, "reasoning_effort": "high"}, Think.OFF),
        ({}, None),
    ],
)
def test_how_hard_to_think(fields: dict[str, Any], think: Think | None) -> None:
    assert parse_chat(chat(**fields), BOUNDS).think is think


def test_what_a_model_could_not_honour_is_named_as_the_request_spelt_it() -> None:
    read = parse_chat(chat(verbosity="low", reasoning_effort="low", functions=[{"name": "g"}], zeta=1), BOUNDS)
    names = dropped_names(read, ("tools.not", "think", "response_format.if"))
    assert names == ("verbosity", "reasoning_effort", "functions.not", "zeta", "response_format.if")


@pytest.mark.parametrize(("told", "overflow"), [("auto", "left"), ("disabled", "refuse"), (None, None)])
def test_what_becomes_of_a_chat_that_does_not_fit(told: str | None, overflow: str | None) -> None:
    assert parse_chat(chat(truncation=told), BOUNDS).overflow == overflow


def test_old_functions_are_tools_that_answer_in_the_old_form() -> None:
    use = parse_chat(chat(functions=[{"name": "g"}], function_call={"name": "g"}), BOUNDS).tool_use
    assert use.legacy
    assert use.name == "g"


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ({"type": "json_object"}, JsonObject()),
        (
            {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "string"}}},
            JsonSchema({"type": "string"}),
        ),
        (
            {"type": "json_schema", "json_schema": {"schema": {}, "strict": True}},
            JsonSchema({}, strict=True),
        ),
        ({"type": "text"}, FreeText()),
    ],
)
def test_the_shape_of_an_answer(shape: object, wanted: object) -> None:
    assert parse_chat(chat(response_format=shape), BOUNDS).constraint == wanted


def test_a_grammar_is_kept_as_text() -> None:
    assert parse_chat(chat(grammar='root ::= "a"'), BOUNDS).constraint == Gbnf('root ::= "a"')


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": "1"}, "top_p"),
        ({"n": 1.5}, "n"),
        ({"stop": ["a", 1]}, "stop"),
        ({"messages": [USER, {"role": "assistant"}]}, "messages[1].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [{"type": "refusal"}]}]}, "messages[0].content[0].refusal"),
        ({"messages": [{"role": "user", "content": None, "refusal": "No."}]}, "messages[0].content"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [7]}, "messages[0]"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"logit_bias": {"1": 101}}, "logit_bias.1"),
        ({"tools": [TOOL, TOOL]}, "tools"),
        ({"tools": [{"type": "web"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "a.b"}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "f" * 65}}]}, "tools[0].function.name"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "allowed_tools": {"tools": []}}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": allowed("g")}, "tool_choice"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ({"metadata": {"k": "v" * 513}}, "metadata"),
        ({"metadata": {"k" * 65: "v"}}, "metadata"),
        ({"modalities": ["smell"]}, "modalities"),
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
        ({"thinking": "yes"}, "thinking"),
        ({"thinking": {"type": "maybe"}}, "thinking.type"),
        ({"truncation": "some"}, "truncation"),
        ({"store": 1}, "store"),
        ({"min_tokens": -1}, "min_tokens"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}}, "response_format"),
        ({"grammar": "x", "response_format": {"type": "json_object"}}, "grammar"),
        ({"grammar_json_functions": {"not": {}}}, "grammar_json_functions"),
        ({"messages": [USER, {"role": "tool", "tool_call_id": "c9", "content": "7"}]}, "messages"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": "any"}, "tool_choice"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"stream": 1}, "stream"),
        ({"keep_alive": "soon"}, "keep_alive"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        parse_chat(chat(**fields), BOUNDS)
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"audio": {}}, "audio"),
        ({"modalities": ["text", "audio"], "audio": {}}, "audio"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"tools": [{"type": "custom", "name": "x"}]}, "tools[0].type"),
    ],
)
def test_what_would_change_the_answer_and_cannot_be_done_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Unsupported) as refused:
        parse_chat(chat(**fields), BOUNDS)
    assert refused.value.param == param


def test_arguments_that_could_have_no_names_are_refused() -> None:
    with pytest.raises(InvalidSchema) as refused:
        parse_chat(
            chat(tools=[{"type": "function", "function": {"name": "f", "parameters": {"type": "array"}}}]), BOUNDS
        )
    assert refused.value.param == "tools"


def test_an_assistants_refusal_may_be_sent_back() -> None:
    said = {"role": "assistant", "content": None, "refusal": "No.", "tool_calls": None}
    assert parse_chat(chat(messages=[USER, said, USER]), BOUNDS).messages[1].text == "No."


@pytest.mark.parametrize(("prompt", "count"), [("a", 1), (["a", "b"], 2), ([1, 2], 1), ([[1], [2, 3]], 2), ("", 1)])
def test_the_forms_of_a_prompt(prompt: object, count: int) -> None:
    assert len(parse_completion(json.dumps({"prompt": prompt}).encode(), BOUNDS).prompts) == count


def test_the_best_of_fewer_than_wanted_is_refused() -> None:
    with pytest.raises(InvalidValue, match="best_of"):
        parse_completion(b'{"prompt":"a","n":3,"best_of":2}', BOUNDS)
    with pytest.raises(Unsupported):
        parse_completion(b'{"prompt":"a","suffix":"b"}', BOUNDS)


def test_embeddings_say_how_they_want_their_numbers() -> None:
    assert parse_embed(b'{"input":"a","encoding_format":"base64"}', BOUNDS).base64
    assert not parse_embed(b'{"input":"a"}', BOUNDS).base64
    with pytest.raises(InvalidValue):
        parse_embed(b'{"input":"a","encoding_format":"hex"}', BOUNDS)


@pytest.mark.parametrize("depth", [201, 10_000, 1_000_000])
@pytest.mark.parametrize("pair", ["[]", "{}"])
def test_no_nesting_is_deep_enough_to_hurt(depth: int, pair: str) -> None:
    opening = pair[0] if pair == "[]" else '{"a":'
    for closed in (True, False):
        body = '{"x":' + opening * depth + ("1" + pair[1] * depth + "}" if closed else "")
        with pytest.raises(InvalidJson):
            parse_object(body.encode(), depth=200, items=10_000_000)


def test_two_hundred_levels_are_fine() -> None:
    assert parse_object(b'{"x":' + b"[" * 199 + b"]" * 199 + b"}", depth=200, items=1000)


@pytest.mark.parametrize("body", [b'{"a":1,"a":2}', b'{"a":1,"\\u0061":2}', b'{"model":"x","mod\\u0065l":"y"}'])
def test_a_field_given_twice_is_refused_however_it_is_spelt(body: bytes) -> None:
    with pytest.raises(InvalidJson, match="twice"):
        parse_object(body, depth=200, items=1000)


def test_a_key_that_also_stands_in_a_text_is_no_duplicate() -> None:
    assert parse_object(b'{"a":"say \\"a\\" and {\\"a\\":1}","b":{"a":1}}', depth=200, items=1000)


@given(st.binary(max_size=200))
def test_no_bytes_are_more_than_a_bad_request(raw: bytes) -> None:
    for parse in (parse_chat, parse_completion, parse_embed):
        try:
            parse(raw, BOUNDS)
        except BadRequest as refused:
            assert refused.message


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(
    [
        "model",
        "n",
        "stop",
        "seed",
        "tools",
        "tool_choice",
        "logit_bias",
        "stream",
        "response_format",
        "messages",
        "metadata",
    ]
)


@given(st.dictionaries(NAMES, VALUES, max_size=4))
def test_no_value_of_any_field_is_more_than_a_bad_request(fields: dict[str, Any]) -> None:
    try:
        parse_chat(chat(**fields), BOUNDS)
    except BadRequest as refused:
        assert refused.message
