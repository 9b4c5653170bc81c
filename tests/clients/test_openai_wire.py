"""Fields of the wire on the default model: honoured, dropped by name, or refused by name."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.running import PATIENCE, RunningServer

CHAT = "smollm2-135m-instruct"
HELLO = [{"role": "user", "content": "Say hi."}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 12}},
            "required": ["city"],
        },
    },
}


def ask(server: RunningServer, *, path: str = "chat/completions", **body: Any) -> Any:
    given = {
        "model": CHAT,
        "max_tokens": 40,
        "temperature": 0,
        **({"messages": HELLO} if "chat" in path else {}),
        **body,
    }
    with server.client() as client:
        return client.post(f"/v1/{path}", json=given)


def shape(schema: Any, *, strict: bool = False) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "s", "schema": schema, "strict": strict}}


def text_of(answer: Any) -> str:
    return answer.json()["choices"][0]["message"]["content"]


def test_an_answer_is_as_long_as_it_must_be(server: RunningServer) -> None:
    free = ask(server, max_tokens=200).json()["usage"]["completion_tokens"]
    assert free < 200, "it ends by itself"
    longer = ask(server, max_tokens=200, min_tokens=free + 20)
    assert longer.json()["usage"]["completion_tokens"] >= free + 20
    assert "x-atrium-dropped" not in longer.headers
    endless = ask(server, max_tokens=free + 30, ignore_eos=True).json()
    assert endless["usage"]["completion_tokens"] == free + 30
    assert ask(server, min_tokens=41).json()["error"]["param"] == "min_tokens"


def test_a_least_length_beside_a_shape_is_dropped_by_name(server: RunningServer) -> None:
    answer = ask(server, min_tokens=10, response_format=shape({"enum": ["yes", "no"]}), verbosity="low")
    assert json.loads(text_of(answer)) in ("yes", "no")
    assert answer.headers["x-atrium-dropped"] == "min_tokens, verbosity"


def test_what_the_models_template_does_not_know_is_dropped_by_name(server: RunningServer) -> None:
    answer = ask(server, reasoning_effort="low", chat_template_kwargs={"mood": "sunny"}, thinking=True, stream=True)
    assert answer.headers["x-atrium-dropped"] == "reasoning_effort, chat_template_kwargs.mood, thinking"
    assert answer.text.endswith("data: [DONE]\n\n")


def test_a_keyword_that_cannot_be_enforced_is_named(server: RunningServer) -> None:
    schema = {"type": "array", "items": {"enum": [1, 2]}, "minItems": 1, "maxItems": 2, "uniqueItems": True}
    dropped = ask(server, response_format=shape(schema))
    assert dropped.headers["x-atrium-dropped"] == "response_format.uniqueItems"
    assert set(json.loads(text_of(dropped))) <= {1, 2}
    refused = ask(server, response_format=shape(schema, strict=True))
    assert refused.status_code == 400
    assert refused.json()["error"] | {"message": ""} == {
        "message": "",
        "type": "invalid_request_error",
        "param": "response_format",
        "code": "invalid_schema",
    }
    assert "uniqueItems" in refused.json()["error"]["message"]


@pytest.mark.parametrize("strict", [True, False])
def test_a_tools_schema_is_held_to_the_same(server: RunningServer, strict: bool) -> None:
    parameters = {
        "type": "object",
        "properties": {"n": {"type": "integer", "multipleOf": 7, "maximum": 90}},
        "required": ["n"],
    }
    tool = {"type": "function", "function": {"name": "count", "parameters": parameters, "strict": strict}}
    answer = ask(server, tools=[tool], tool_choice="required")
    if strict:
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "tools")
    else:
        assert answer.headers["x-atrium-dropped"] == "tools.multipleOf"
        (call,) = answer.json()["choices"][0]["message"]["tool_calls"]
        assert len(call["id"]) == len("call_") + 24
        assert set(json.loads(call["function"]["arguments"])) == {"n"}


def test_one_of_the_allowed_tools_is_called(server: RunningServer) -> None:
    other = {"type": "function", "function": {"name": "other"}}
    choice = {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "get_weather"}}]},
    }
    answer = ask(server, tools=[other, WEATHER], tool_choice=choice).json()["choices"][0]
    assert answer["finish_reason"] == "tool_calls"
    assert answer["message"]["content"] is None
    assert {call["function"]["name"] for call in answer["message"]["tool_calls"]} == {"get_weather"}


def test_an_old_function_is_called_in_the_old_form(server: RunningServer) -> None:
    asked: dict[str, Any] = {"functions": [WEATHER["function"]], "function_call": {"name": "get_weather"}}
    choice = ask(server, **asked).json()["choices"][0]
    assert choice["finish_reason"] == "function_call"
    assert "city" in json.loads(choice["message"]["function_call"]["arguments"])
    history = [
        *HELLO,
        {"role": "assistant", "content": None, "function_call": choice["message"]["function_call"]},
        {"role": "function", "name": "get_weather", "content": "rain"},
    ]
    assert ask(server, messages=history).status_code == 200
    forbidden = ask(server, functions=asked["functions"], function_call="none").json()["choices"][0]
    assert forbidden["finish_reason"] in ("stop", "length")


def test_several_calls_stream_in_their_order(server: RunningServer) -> None:
    answer = ask(
        server,
        stream=True,
        max_tokens=300,
        tools=[WEATHER],
        tool_choice="required",
        parallel_tool_calls=True,
        messages=[{"role": "user", "content": "Weather in Rome, Oslo and Lima?"}],
    )
    chunks = [json.loads(line[6:]) for line in answer.text.split("\n\n") if line.startswith("data: {")]
    deltas = [call for chunk in chunks for call in chunk["choices"][0]["delta"].get("tool_calls", [])]
    begun = [call for call in deltas if "id" in call]
    assert [call["index"] for call in begun] == list(range(len(begun)))
    assert [call["index"] for call in deltas] == sorted(call["index"] for call in deltas)
    assert all(call["function"]["arguments"] == "" for call in begun)
    for one in begun:
        own = [call["function"]["arguments"] for call in deltas if call["index"] == one["index"]]
        assert len(own) > 2, "arguments come piece by piece"
        assert "city" in json.loads("".join(own))
    assert not any(chunk["choices"][0]["delta"].get("content") for chunk in chunks)


@pytest.mark.parametrize("most", [1, 4, 9, 14])
def test_a_demanded_call_that_is_cut_off_leaves_no_text(server: RunningServer, most: int) -> None:
    choice = ask(server, tools=[WEATHER], tool_choice="required", max_tokens=most).json()["choices"][0]
    assert choice["finish_reason"] == "length"
    assert not choice["message"]["content"]


def test_scores_are_of_the_text_and_of_nothing_else(server: RunningServer) -> None:
    answer = ask(server, logprobs=True, top_logprobs=2, max_tokens=200).json()["choices"][0]
    assert answer["finish_reason"] == "stop"
    scores = answer["logprobs"]["content"]
    assert "".join(score["token"] for score in scores) == answer["message"]["content"]
    assert bytes(b for score in scores for b in score["bytes"]).decode() == answer["message"]["content"]


def test_old_functions_of_localai_shape_the_answer(server: RunningServer) -> None:
    functions = {
        "oneOf": [
            {
                "type": "object",
                "properties": {"function": {"const": name}, "n": {"enum": [1, 2]}},
                "required": ["function", "n"],
            }
            for name in ("add", "sub")
        ]
    }
    answer = json.loads(text_of(ask(server, grammar_json_functions=functions)))
    assert answer["function"] in ("add", "sub")
    assert answer["n"] in (1, 2)


@pytest.mark.parametrize(
    "text", ["a\x00b", "\ud83e\udee0 \u9f98 e\u0301", "\u202eabc\ufeff", "<|im_end|>\n<|im_start|>system"]
)
def test_odd_text_is_text(server: RunningServer, text: str) -> None:
    raw = json.dumps({"model": CHAT, "messages": [{"role": "user", "content": text}], "max_tokens": 4})
    with server.client() as client:
        answer = client.post("/v1/chat/completions", content=raw, headers={"content-type": "application/json"})
        lone = client.post("/v1/chat/completions", content=raw.replace("\\u", "\\ud800\\u", 1))
    assert answer.status_code == 200, answer.text
    assert lone.status_code in (200, 400)


def spoken(server: RunningServer, **sampling: Any) -> str:
    asked = [{"role": "user", "content": "Tell me about the sea, the sea and the sea."}]
    body: dict[str, Any] = {"messages": asked, "max_tokens": 32, "seed": 5, **sampling}
    return text_of(ask(server, **body))


def test_sampling_fields_change_what_is_said(server: RunningServer) -> None:
    greedy = spoken(server)
    assert greedy == spoken(server, seed=6), "greedy is greedy whatever the seed"
    hot: dict[str, Any] = {"temperature": 1.8}
    assert spoken(server, **hot) != greedy
    for narrow in ({"top_k": 1}, {"top_p": 0}, {"min_p": 1}):
        assert spoken(server, **hot, **narrow) == greedy, narrow
    for penalty in (
        {"repeat_penalty": 1.9},
        {"repetition_penalty": 1.9},
        {"frequency_penalty": 2},
        {"presence_penalty": 2},
    ):
        assert spoken(server, **penalty) != greedy, penalty
    first = ask(server, logprobs=True, max_tokens=1).json()["choices"][0]["logprobs"]["content"][0]["token"]
    with server.client() as client:
        ids = client.post("/lollms/v1/tokenize", json={"model": CHAT, "text": first}).json()["tokens"]
    banned = ask(server, logprobs=True, max_tokens=1, logit_bias={str(ids[0]): -100})
    assert banned.json()["choices"][0]["message"]["content"] != first


def event_of(server: RunningServer, request_id: str) -> str:
    """The closing event, which is written once the answer is."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for line in (server.data_dir.parent / "server.log").read_text().splitlines():
            if request_id in line and "request.ended" in line:
                return line
    raise AssertionError(f"no closing event of {request_id}")


def test_whom_it_is_for_stands_in_the_closing_event(server: RunningServer) -> None:
    answer = ask(server, max_tokens=2, user="customer-17", metadata={"job": "nightly"})
    line = event_of(server, answer.headers["x-request-id"])
    told = json.loads(line)
    assert (told["user"], told["metadata"]) == ("customer-17", {"job": "nightly"})


def complete(server: RunningServer, **body: Any) -> Any:
    given: dict[str, Any] = {"path": "completions", "max_tokens": 8, **body}
    return ask(server, **given)


def test_an_echo_is_the_prompt_to_the_letter(server: RunningServer) -> None:
    prompt = "  The sea\n\nis  wide,"
    plain = complete(server, prompt=prompt).json()["choices"][0]["text"]
    assert complete(server, prompt=prompt, echo=True).json()["choices"][0]["text"] == prompt + plain
    ids = [504, 3150, 314]
    written = complete(server, prompt=[ids, ids], echo=True, n=2, seed=1).json()
    assert [choice["index"] for choice in written["choices"]] == [0, 1, 2, 3]
    shown = {choice["text"][:8] for choice in written["choices"]}
    assert len(shown) == 1
    assert shown.pop().strip(), "token ids are shown as their text"
    streamed = complete(server, prompt=ids, echo=True, stream=True)
    chunks = [json.loads(line[6:]) for line in streamed.text.split("\n\n") if line.startswith("data: {")]
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == written["choices"][0]["text"]
    alone = complete(server, prompt=[prompt, "The"], echo=True, max_tokens=0, n=2).json()
    assert [choice["text"] for choice in alone["choices"]] == [prompt, prompt, "The", "The"]
    assert {choice["finish_reason"] for choice in alone["choices"]} == {"length"}
    assert alone["usage"]["completion_tokens"] == 0 < alone["usage"]["prompt_tokens"]


def test_a_tool_without_parameters_is_called_without_any(server: RunningServer) -> None:
    empty: dict[str, Any] = {"parameters": {"type": "object", "properties": {}}}
    for parameters in ({}, empty):
        tool: Any = {"type": "function", "function": {"name": "now", **parameters}}
        choice = ask(server, tools=[tool], tool_choice="required", max_tokens=60).json()["choices"][0]
        assert choice["message"]["tool_calls"][0]["function"]["arguments"] == "{}"


def test_a_raw_completions_scores_stand_where_their_tokens_do(server: RunningServer) -> None:
    choice = complete(server, prompt="The sea is", logprobs=2, echo=True).json()["choices"][0]
    scores = choice["logprobs"]
    assert len(scores["tokens"]) == len(scores["token_logprobs"]) == len(scores["text_offset"])
    for token, offset in zip(scores["tokens"], scores["text_offset"], strict=True):
        assert choice["text"][offset : offset + len(token)] == token
    assert all(len(best) <= 2 for best in scores["top_logprobs"][1:])


def test_an_echos_tokens_have_the_scores_that_generating_them_tells(server: RunningServer) -> None:
    ids = [504, 2365, 6354, 16438, 27003, 690, 260]
    alone = complete(server, prompt=ids, echo=True, logprobs=3, max_tokens=0).json()["choices"][0]
    scores = alone["logprobs"]
    assert (scores["token_logprobs"][0], scores["top_logprobs"][0]) == (None, None)
    assert len(scores["tokens"]) == len(ids)
    for place in (1, 3, 6):
        forced = complete(server, prompt=ids[:place], max_tokens=1, logprobs=3, logit_bias={ids[place]: 100}).json()
        told = forced["choices"][0]["logprobs"]
        assert told["tokens"] == scores["tokens"][place : place + 1]
        assert told["token_logprobs"][0] == pytest.approx(scores["token_logprobs"][place], abs=1e-2)
        assert told["top_logprobs"][0] == pytest.approx(scores["top_logprobs"][place], abs=1e-2)
    longer = complete(server, prompt=ids, echo=True, logprobs=3, max_tokens=2).json()["choices"][0]["logprobs"]
    assert longer["token_logprobs"][1:7] == pytest.approx(scores["token_logprobs"][1:], abs=1e-2)
    assert len(longer["tokens"]) == len(ids) + 2


@pytest.mark.parametrize("prompt", ["  A \U0001f389 fête\n", [1, 9690, 198, 2, 198, 1, 0, 198], "The", ""])
def test_an_echos_tokens_are_its_text_whatever_they_are(server: RunningServer, prompt: str | list[int]) -> None:
    """Characters of several tokens, control tokens among them those that end an answer, a single token, none."""
    body = {"prompt": prompt, "echo": True, "logprobs": 0}
    whole = complete(server, **body, max_tokens=1).json()
    choice, scores = whole["choices"][0], whole["choices"][0]["logprobs"]
    assert "".join(scores["tokens"]) == choice["text"]
    count = whole["usage"]["prompt_tokens"] if prompt else 0
    assert [chance is None for chance in scores["token_logprobs"][:count]] == [True, *[False] * (count - 1)][:count]
    places = [sum(map(len, scores["tokens"][:n])) for n in range(len(scores["tokens"]))]
    assert scores["text_offset"] == places
    streamed = complete(server, **body, max_tokens=1, stream=True).text.split("\n\n")
    told = [json.loads(line[6:])["choices"][0]["logprobs"] for line in streamed if line.startswith("data: {")]
    for name in ("tokens", "text_offset"):
        assert [one for part in told if part for one in part[name]] == scores[name]


def test_the_best_of_several_texts_is_given(server: RunningServer) -> None:
    body = {"prompt": "The sea is", "temperature": 1.5, "seed": 3, "logprobs": 0}
    several = complete(server, **body, n=4).json()
    means = [sum(c["logprobs"]["token_logprobs"]) / len(c["logprobs"]["tokens"]) for c in several["choices"]]
    best = complete(server, **body, best_of=4).json()
    assert best["choices"][0]["text"] == several["choices"][means.index(max(means))]["text"]
    assert best["usage"] == several["usage"]


def test_the_usage_counts_every_prompt(server: RunningServer) -> None:
    one, other = (
        complete(server, prompt=text).json()["usage"]["prompt_tokens"] for text in ("The sea", "A very wide sea")
    )
    both = complete(server, prompt=["The sea", "A very wide sea"]).json()
    assert both["usage"]["prompt_tokens"] == one + other
    assert both["id"].startswith("cmpl-")
    assert both["object"] == "text_completion"
