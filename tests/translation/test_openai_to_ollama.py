"""OpenAI's clients on an endpoint that speaks only Ollama's API. Contract `openai.md`, sections 7.1 and 7.2."""

from __future__ import annotations

import base64
import json
import time
from typing import Any, cast

import openai
import pytest

from tests.gateway.fakes import Fake
from tests.gateway.wire import connect, exchange, post
from tests.running import RunningServer

HELLO = [{"role": "user", "content": "hello"}]
WORDS = "word0 word1 word2 word3 word4 "
PIXEL = "iVBORw0KGgo="
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": "d",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
    for name in ("weather", "news")
]


def ask(client: openai.OpenAI, text: str = "hello", **more: Any) -> Any:
    create = cast("Any", client.chat.completions).create
    return create(model="llama3", messages=[{"role": "user", "content": text}], **more)


@pytest.fixture
def key(both: RunningServer) -> str:
    return f"Authorization: Bearer {both.key}"


def test_a_whole_answer_comes_in_openais_words(client: openai.OpenAI, den: Fake) -> None:
    answer = ask(client, temperature=0.5, max_completion_tokens=9, stop="END", top_p=0.9, seed=4)
    assert answer.model == "llama3"
    assert answer.choices[0].message.content == WORDS
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 5)
    told = den.last()
    assert told["path"] == "/api/chat"
    assert told["body"]["model"] == "llama3:latest"
    options = {"temperature": 0.5, "num_predict": 9, "stop": ["END"], "top_p": 0.9, "seed": 4}
    assert told["body"]["options"] == options
    assert told["body"]["stream"] is False


def test_a_stream_has_openais_order(both: RunningServer, key: str) -> None:
    body = {"model": "fast", "messages": HELLO, "stream": True, "stream_options": {"include_usage": True}}
    answer = exchange(both.url, post("/v1/chat/completions", json.dumps(body).encode(), key))
    assert answer.whole
    assert answer.header("x-olla-endpoint") == "den"
    assert answer.header("x-olla-model") == "llama3:latest"
    events = answer.body.decode().strip().split("\n\n")
    assert events[-1] == "data: [DONE]"
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-1]]
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks[:-2]) == WORDS
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["usage"]["total_tokens"] == 8
    assert {chunk["model"] for chunk in chunks} == {"fast"}


@pytest.mark.parametrize("stream", [False, True])
def test_calls_have_text_for_arguments_and_ids(client: openai.OpenAI, stream: bool) -> None:
    answer = ask(client, "call it", tools=TOOLS, stream=stream)
    if stream:
        chunks = list(answer)
        pieces = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
        names = [piece.function.name for piece in pieces if piece.id]
        arguments = ["".join(p.function.arguments for p in pieces if p.index == index) for index in (0, 1)]
        finish = chunks[-1].choices[0].finish_reason
    else:
        calls = answer.choices[0].message.tool_calls
        assert len({call.id for call in calls}) == 2
        names, arguments = [call.function.name for call in calls], [call.function.arguments for call in calls]
        finish = answer.choices[0].finish_reason
    assert names == ["weather", "news"]
    assert [json.loads(text) for text in arguments] == [{"city": "Paris", "days": 2}] * 2
    assert finish == "tool_calls"


def test_one_call_is_one_call(client: openai.OpenAI) -> None:
    answer = ask(client, "call it", tools=TOOLS, parallel_tool_calls=False)
    assert [call.function.name for call in answer.choices[0].message.tool_calls] == ["weather"]


@pytest.mark.parametrize(
    ("choice", "name"),
    [("required", "weather"), ({"type": "function", "function": {"name": "news"}}, "news")],
)
def test_a_demanded_call_is_the_shape_of_the_answer(client: openai.OpenAI, den: Fake, choice: Any, name: str) -> None:
    answer = ask(client, tools=TOOLS, tool_choice=choice)
    [call] = answer.choices[0].message.tool_calls
    assert call.function.name == name
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    assert answer.choices[0].finish_reason == "tool_calls"
    told = den.last()["body"]
    assert "tools" not in told
    assert "format" in told


def test_no_tools_where_none_may_be_called(client: openai.OpenAI, den: Fake) -> None:
    ask(client, tools=TOOLS, tool_choice="none")
    assert "tools" not in den.last()["body"]


def test_history_images_and_thoughts_find_their_places(client: openai.OpenAI, den: Fake) -> None:
    create = cast("Any", client.chat.completions).create
    call = {"id": "call_7", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}", "detail": "high"}}
    raw = create(
        model="den/llama3",
        messages=[
            {"role": "system", "content": "be kind"},
            {"role": "user", "name": "ann", "content": [{"type": "text", "text": "look"}, image]},
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_7", "content": "22 C"},
        ],
        reasoning_effort="high",
        user="u1",
        service_tier="auto",
    )
    assert raw.choices[0].message.reasoning_content == "let me think"
    told = den.last()["body"]
    assert told["think"] == "high"
    roles = [message["role"] for message in told["messages"]]
    assert roles == ["system", "user", "assistant", "tool"]
    assert told["messages"][1] == {"role": "user", "content": "look", "images": [PIXEL]}
    assert told["messages"][2]["tool_calls"][0]["function"] == {"name": "weather", "arguments": {"city": "Rome"}}
    assert told["messages"][3]["tool_name"] == "weather"


def test_what_is_harmless_is_dropped_and_named(both: RunningServer, key: str) -> None:
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}", "detail": "low"}}
    body = {"model": "llama3", "messages": [{"role": "user", "name": "ann", "content": [image]}], "verbosity": "low"}
    more = {"user": "u", "metadata": {"a": "b"}}
    answer = exchange(both.url, post("/v1/chat/completions", json.dumps({**body, **more}).encode(), key))
    assert answer.status == 200
    named = set((answer.header("x-atrium-dropped") or "").split(", "))
    assert named == {"verbosity", "messages.name", "messages.content.image_url.detail", "user", "metadata"}


@pytest.mark.parametrize(("field", "value"), [("logit_bias", {"5": 1}), ("min_tokens", 5), ("grammar", 'root ::= "a"')])
def test_what_changes_the_meaning_is_refused_unless_the_loss_is_allowed(
    both: RunningServer, den: Fake, key: str, field: str, value: object
) -> None:
    asked = den.counts()["asked"]
    body = json.dumps({"model": "llama3", "messages": HELLO, field: value}).encode()
    refused = exchange(both.url, post("/v1/chat/completions", body, key))
    error = json.loads(refused.body)["error"]
    assert (refused.status, error["code"], error["param"]) == (400, "unsupported_parameter", field)
    assert den.counts()["asked"] == asked
    allowed = exchange(both.url, post("/v1/chat/completions", body, key, "X-Atrium-Allow-Lossy: true"))
    assert (allowed.status, allowed.header("x-atrium-dropped")) == (200, field)
    assert field not in den.last()["body"]


def test_an_answer_of_another_shape_is_never_handed_on(client: openai.OpenAI, den: Fake) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    shape = {"type": "json_schema", "json_schema": {"name": "city", "schema": schema}}
    answer = ask(client, response_format=shape)
    assert json.loads(answer.choices[0].message.content) == {"city": "Paris"}
    assert den.last()["body"]["format"] == schema
    with pytest.raises(openai.InternalServerError) as broken:
        ask(client, "odd", response_format=shape)
    assert broken.value.status_code == 502
    with pytest.raises(openai.InternalServerError):
        ask(client, "odd", response_format={"type": "json_object"})


def test_several_choices_are_several_questions(client: openai.OpenAI, den: Fake) -> None:
    before = den.counts()["asked"]
    answer = ask(client, n=3, seed=5)
    assert [choice.message.content for choice in answer.choices] == [WORDS] * 3
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 15)
    assert den.counts()["asked"] == before + 3


def test_completions_are_raw_generations(client: openai.OpenAI, den: Fake) -> None:
    answer = client.completions.create(model="llama3", prompt=["one", "two"], echo=True, max_tokens=4)
    assert [choice.text for choice in answer.choices] == [f"one{WORDS}", f"two{WORDS}"]
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 6
    told = den.last()
    assert (told["path"], told["body"]["raw"]) == ("/api/generate", True)
    streamed = client.completions.create(model="llama3", prompt="one", stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == WORDS


def test_an_endpoints_scores_of_a_prompt_are_not_invented(client: openai.OpenAI, den: Fake) -> None:
    before = den.counts()["asked"]
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(model="llama3", prompt="one", echo=True, logprobs=1, max_tokens=4)
    assert (refused.value.param, refused.value.code) == ("logprobs", "unsupported_parameter")
    assert den.counts()["asked"] == before


def test_vectors_come_in_both_forms_and_cut_to_length(client: openai.OpenAI) -> None:
    plain = client.embeddings.create(model="nomic-embed", input=["a", "b"], encoding_format="float")
    assert [one.embedding for one in plain.data] == [pytest.approx([0.6, 0.8])] * 2
    assert plain.usage.prompt_tokens == 4
    short = client.embeddings.create(model="nomic-embed", input="a", dimensions=1)
    assert short.data[0].embedding == [1.0]
    raw = client.embeddings.with_raw_response.create(model="nomic-embed", input="a", encoding_format="base64")
    told = json.loads(raw.content)["data"][0]["embedding"]
    assert len(base64.b64decode(told)) == 8
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model="nomic-embed", input=[1, 2])
    assert refused.value.param == "input"


@pytest.mark.parametrize(
    ("fault", "status"), [("status=500", 502), ("status=429", 429), ("status=404", 404), ("hang", 504), ("reset", 502)]
)
def test_an_endpoints_failure_is_told_in_the_callers_envelope(
    both: RunningServer, key: str, fault: str, status: int
) -> None:
    body = {"model": "llama3", "messages": [{"role": "user", "content": f"[fake {fault}]"}]}
    answer = exchange(both.url, post("/v1/chat/completions", json.dumps(body).encode(), key))
    assert answer.status == status
    assert set(json.loads(answer.body)["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("fault", ["broken", "half", "hang-body", "garbage"])
def test_a_broken_stream_looks_broken(both: RunningServer, key: str, fault: str) -> None:
    body = {"model": "llama3", "stream": True, "messages": [{"role": "user", "content": f"[fake {fault}]"}]}
    answer = exchange(both.url, post("/v1/chat/completions", json.dumps(body).encode(), key))
    assert b"[DONE]" not in answer.body
    if answer.status == 200:
        assert b'"error"' in answer.body
        assert not answer.whole


def test_who_hangs_up_frees_the_endpoint(both: RunningServer, den: Fake, key: str) -> None:
    text = "[fake pace=50ms, chunks=2000]"
    body = {"model": "llama3", "stream": True, "messages": [{"role": "user", "content": text}]}
    before = den.counts()["cancelled"]
    with connect(both.url) as line:
        line.sendall(post("/v1/chat/completions", json.dumps(body).encode(), key))
        assert line.recv(4096)
    deadline = time.monotonic() + 20
    while den.counts()["cancelled"] == before:
        assert time.monotonic() < deadline
    with both.client() as plain:
        endpoints = plain.get("/internal/status/endpoints").json()["endpoints"]
    assert {one["name"]: one for one in endpoints}["den"]["active_connections"] == 0


@pytest.mark.parametrize("stream", [False, True])
def test_thoughts_in_the_answer_are_split_from_it(client: openai.OpenAI, stream: bool) -> None:
    answer = ask(client, "[fake aloud]", stream=stream)
    said = [chunk.choices[0].delta for chunk in answer if chunk.choices] if stream else [answer.choices[0].message]
    assert "".join(one.content or "" for one in said) == WORDS
    assert "".join(getattr(one, "reasoning_content", None) or "" for one in said) == "let me think"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:1/a.png", "refused"),
        ("file:///etc/passwd", "neither an http or https address nor a data URI"),
        ("http://user@example.com/a.png", "without credentials"),
    ],
)
def test_an_image_that_may_not_be_fetched_is_refused_by_name(
    client: openai.OpenAI, den: Fake, url: str, said: str
) -> None:
    asked = den.counts()["asked"]
    create = cast("Any", client.chat.completions).create
    parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": url}}]
    with pytest.raises(openai.BadRequestError, match=said) as refused:
        create(model="llama3", messages=[{"role": "user", "content": parts}])
    assert refused.value.param == "messages[0].content[1]"
    assert den.counts()["asked"] == asked


def test_a_translated_request_is_explained_and_counted(both: RunningServer, key: str) -> None:
    body = json.dumps({"model": "llama3", "messages": HELLO, "verbosity": "low", "user": "u"}).encode()
    with both.client() as plain:
        before = plain.get("/internal/stats/translators").json()["summary"]["total_requests"]
        exchange(both.url, post("/v1/chat/completions", body, key, "X-Request-ID: translated-1"))
        told = plain.get("/api/admin/requests/translated-1").json()
        assert told["routing"] == ["translated", "ollama", "ollama"]
        assert [one[0] for one in told["tries"]] == ["den"]
        assert (told["ran"], told["completion_tokens"]) == ("llama3:latest", 5)
        assert set(told["passed_over"]) == {"lab", "cloud"}
        after = plain.get("/internal/stats/translators").json()
        assert after["summary"]["total_requests"] == before + 1
        [row] = [one for one in after["translators"] if one["translator_name"] == "openai-to-ollama"]
        assert row["translation_requests"] >= 1
        names = {one["name"]: one for one in plain.get("/internal/stats/models").json()["models"]}
        assert names["llama3:latest"]["total_requests"] >= 1


def test_the_other_roots_and_the_gateways_prefix_reach_it_too(both: RunningServer, key: str) -> None:
    body = json.dumps({"model": "llama3", "messages": HELLO}).encode()
    for path in ("/ollama/v1/chat/completions", "/olla/openai/v1/chat/completions"):
        answer = exchange(both.url, post(path, body, key))
        assert answer.status == 200, answer.body
        assert json.loads(answer.body)["choices"][0]["message"]["content"] == WORDS
