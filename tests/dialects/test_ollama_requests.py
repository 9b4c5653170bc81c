"""What Ollama's callers may say, and how a wrong word is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from atrium.core.errors import AtriumError
from atrium.core.requests import Chat, Completion, JsonObject, JsonSchema, Role, Think
from atrium.dialects.bounds import RequestBounds
from atrium.dialects.ollama.request import parse_chat, parse_embed, parse_embeddings, parse_generate

BOUNDS = RequestBounds()
PIXEL = "iVBORw0KGgo="


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", **fields}).encode()


def chat(**fields: Any) -> Chat:
    said = parse_chat(body(**fields), BOUNDS).said
    assert isinstance(said, Chat)
    return said


def refusal(**fields: Any) -> str:
    with pytest.raises(AtriumError) as refused:
        parse_chat(body(**fields), BOUNDS)
    assert refused.value.status == 400
    return refused.value.message


def test_a_chat_streams_unless_told_otherwise() -> None:
    assert chat(messages=[{"role": "user", "content": "hi"}]).stream
    assert not chat(messages=[], stream=False).stream
    assert parse_chat(body(), BOUNDS).wordless
    assert parse_chat(body(messages=None), BOUNDS).wordless


def test_options_become_sampling_and_tuning() -> None:
    options = {"temperature": 0, "num_predict": 5, "top_k": 3.0, "stop": "x", "seed": 7, "num_ctx": 512, "think": True}
    more = {"num_gpu": 2, "numa": False, "mirostat": 1, "mirostat_tau": 4.0, "tfs_z": 1.0, "repeat_last_n": -1}
    said = chat(options={**options, **more}, shift=False)
    sampling = said.sampling
    assert (sampling.temperature, sampling.max_tokens, sampling.top_k, sampling.seed) == (0, 5, 3, 7)
    assert (sampling.stop, sampling.repeat_last_n) == (("x",), -1)
    assert said.tuning.context == 512
    assert set(said.tuning.hints) == {"options.num_gpu", "options.numa"}
    assert said.tuning.samplers == {"options.mirostat": 1, "options.mirostat_tau": 4.0}
    assert not said.tuning.shift
    assert chat(options={"mirostat": 0, "mirostat_eta": 0.1}).tuning.unmet == ()
    assert said.defaults.temperature == 0.8


@pytest.mark.parametrize("given", [-1, -2, 0])
def test_no_limit_is_no_limit(given: int) -> None:
    assert chat(options={"num_predict": given}).sampling.max_tokens is None


@pytest.mark.parametrize(
    ("given", "seconds"),
    [(5, 5.0), ("5m", 300.0), ("1h30m", 5400.0), ("300ms", 0.3), ("0", 0.0), (0, 0.0), (-1, -1.0), ("-1m", -1.0)],
)
def test_keep_alive_is_seconds_or_a_duration(given: object, seconds: float) -> None:
    assert chat(keep_alive=given).keep_alive == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"options": {"temperature": "hot"}}, 'option "temperature" must be of type float32'),
        ({"options": {"seed": True}}, 'option "seed" must be of type integer'),
        ({"options": {"numa": 1}}, 'option "numa" must be of type boolean'),
        ({"options": {"stop": [1]}}, 'option "stop" must be of type string'),
        ({"options": []}, "options"),
        ({"keep_alive": "soon"}, "invalid keep_alive"),
        ({"keep_alive": "5 parsecs"}, "invalid keep_alive"),
        ({"format": "xml"}, "invalid format"),
        ({"think": "hard"}, "invalid think value"),
        ({"stream": "yes"}, "stream"),
        ({"model": ""}, "model is required"),
        ({"model": 3}, "model"),
        ({"messages": {}}, "messages"),
        ({"messages": [{"role": "wizard"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "images": ["!!"]}]}, "illegal base64"),
        ({"top_logprobs": 21}, "top_logprobs"),
    ],
)
def test_a_wrong_word_is_refused_and_named(fields: dict[str, Any], said: str) -> None:
    assert said in refusal(**fields)


@pytest.mark.parametrize(("raw", "said"), [(b"", "missing request body"), (b"{", "JSON"), (b"[]", "object")])
def test_a_body_that_is_none_is_refused(raw: bytes, said: str) -> None:
    with pytest.raises(AtriumError, match=said):
        parse_chat(raw, BOUNDS)


def test_roles_are_read_in_any_case_and_nulls_are_absent() -> None:
    said = chat(messages=[{"role": "System", "content": None}, {"role": "USER", "content": "x", "images": None}])
    assert [message.role for message in said.messages] == [Role.SYSTEM, Role.USER]


def test_tool_results_find_their_calls() -> None:
    calls = [{"function": {"name": name, "arguments": {"x": 1}}} for name in ("one", "two", "one")]
    results = [
        {"role": "tool", "tool_name": "one", "content": "a"},
        {"role": "tool", "tool_name": "two", "content": "b"},
        {"role": "tool", "content": "c"},
    ]
    said = chat(messages=[{"role": "assistant", "content": "", "tool_calls": calls}, *results])
    made = said.messages[0].tool_calls
    assert [call.arguments for call in made] == ['{"x":1}'] * 3
    ids = [call.id for call in made]
    assert [message.tool_call_id for message in said.messages[1:]] == ids


def test_images_come_bare_or_as_data_and_are_told_apart() -> None:
    said = chat(messages=[{"role": "user", "content": "x", "images": [PIXEL, f"data:image/png;base64,{PIXEL}"]}])
    urls = [media.url for media in said.messages[0].media]
    assert urls == [f"data:image/png;base64,{PIXEL}"] * 2


def test_format_and_think_have_their_words() -> None:
    assert isinstance(chat(format="json").constraint, JsonObject)
    shaped = chat(format={"type": "object"}).constraint
    assert isinstance(shaped, JsonSchema)
    assert shaped.place == "format"
    assert [chat(think=value).think for value in (True, False, "max", None)] == [
        Think.ON,
        Think.OFF,
        Think.HIGH,
        None,
    ]


def test_a_generation_is_a_chat_unless_it_is_raw_or_fills_a_gap() -> None:
    plain = parse_generate(body(prompt="hi", system="be brief", context=[1, 2]), BOUNDS).said
    assert isinstance(plain, Chat)
    assert [message.text for message in plain.messages] == ["be brief", "hi"]
    assert plain.context == (1, 2)
    raw = parse_generate(body(prompt="hi", raw=True), BOUNDS).said
    gap = parse_generate(body(prompt="hi", suffix="end"), BOUNDS).said
    assert isinstance(raw, Completion)
    assert raw.raw
    assert isinstance(gap, Completion)
    assert (gap.suffix, gap.raw) == ("end", False)
    assert parse_generate(body(prompt=""), BOUNDS).wordless
    for name, value in (("template", "x"), ("system", "x"), ("context", [1])):
        with pytest.raises(AtriumError, match="raw mode"):
            parse_generate(body(prompt="hi", raw=True, **{name: value}), BOUNDS)


def test_texts_to_embed() -> None:
    one = parse_embed(body(input="hi"), BOUNDS).embed
    many = parse_embed(body(input=["a", "b"], truncate=False, dimensions=8), BOUNDS).embed
    assert one is not None
    assert many is not None
    assert (one.inputs, one.truncate) == (("hi",), True)
    assert (many.inputs, many.truncate, many.dimensions) == (("a", "b"), False, 8)
    assert parse_embed(body(input=""), BOUNDS).embed is None
    assert parse_embed(body(input=[]), BOUNDS).embed is None
    for wrong in (3, [1], {"a": 1}, ["a", None]):
        with pytest.raises(AtriumError, match="invalid input type"):
            parse_embed(body(input=wrong), BOUNDS)
    assert parse_embeddings(body(prompt=""), BOUNDS).embed is None
