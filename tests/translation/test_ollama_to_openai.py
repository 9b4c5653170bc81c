"""Ollama's clients on endpoints that speak only OpenAI's API. Contracts `ollama.md`, `openai.md` section 7.2."""

from __future__ import annotations

import json
from typing import Any, cast

import ollama
import pytest

from tests.gateway.fakes import Fake
from tests.gateway.wire import exchange, post
from tests.running import RunningServer

WORDS = "word0 word1 word2 word3 word4 "
PIXEL = "iVBORw0KGgo="
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "d", "parameters": {"type": "object"}}}]


def said(text: str = "hello", **more: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text, **more}]


@pytest.fixture(params=["", "/ollama"], ids=["root", "ollama"])
def sdk(both: RunningServer, request: pytest.FixtureRequest) -> Any:
    headers = {"Authorization": f"Bearer {both.key}"}
    return cast("Any", ollama.Client(f"{both.url}{request.param}", headers=headers))


@pytest.fixture
def key(both: RunningServer) -> str:
    return f"Authorization: Bearer {both.key}"


def test_a_chat_comes_whole_and_streamed_with_measured_times(sdk: Any, lab: Fake) -> None:
    options = {"temperature": 0.5, "num_predict": 7, "top_k": 3, "repeat_penalty": 1.1, "stop": ["X"], "num_thread": 2}
    whole = sdk.chat("qwen", said(), options=options)
    assert (whole.model, whole.message.content, whole.done_reason) == ("qwen", WORDS, "stop")
    told = lab.last()["body"]
    assert (told["max_tokens"], told["top_k"], told["repetition_penalty"]) == (7, 3, 1.1)
    assert told["stop"] == ["X"]
    assert "options" not in told
    parts = list(sdk.chat("qwen", said(), stream=True))
    assert "".join(part.message.content for part in parts) == WORDS
    for last in (whole, parts[-1]):
        assert (last.prompt_eval_count, last.eval_count) == (3, 5)
        assert last.total_duration >= last.prompt_eval_duration + last.eval_duration > 0


async def test_the_async_client_streams(both: RunningServer) -> None:
    client: Any = ollama.AsyncClient(both.url, headers={"Authorization": f"Bearer {both.key}"})
    parts = [part async for part in await client.chat("gpt", said(), stream=True)]
    assert "".join(part.message.content for part in parts) == WORDS
    assert parts[-1].done


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_is_whole_and_its_arguments_an_object(sdk: Any, stream: bool) -> None:
    answer = sdk.chat("qwen", said("call it"), tools=TOOLS, stream=stream)
    messages = [part.message for part in answer] if stream else [answer.message]
    [call] = [call for message in messages for call in message.tool_calls or ()]
    assert (call.function.name, call.function.arguments) == ("weather", {"city": "Paris", "days": 2})


def test_results_are_given_the_ids_of_their_calls(sdk: Any, lab: Fake) -> None:
    made: dict[str, Any] = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"function": {"name": "weather", "arguments": {"a": 1}}}],
    }
    sdk.chat("qwen", [*said(), made, {"role": "tool", "tool_name": "weather", "content": "22 C"}], tools=TOOLS)
    told = lab.last()["body"]["messages"]
    assert told[1]["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"a":1}'}
    assert told[2]["tool_call_id"] == told[1]["tool_calls"][0]["id"]


def test_shape_thoughts_and_images_find_their_words(sdk: Any, lab: Fake) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    assert json.loads(sdk.chat("qwen", said(), format=schema).message.content) == {"city": "Paris"}
    assert lab.last()["body"]["response_format"]["json_schema"]["schema"] == schema
    thought = sdk.chat("qwen", said(images=[PIXEL]), think="high")
    assert (thought.message.thinking, thought.message.content) == ("let me think", WORDS)
    told = lab.last()["body"]
    assert told["reasoning_effort"] == "high"
    assert told["messages"][0]["content"][0]["image_url"]["url"] == f"data:image/png;base64,{PIXEL}"
    quiet = sdk.chat("qwen", said(), think=False)
    assert quiet.message.thinking is None
    assert lab.last()["body"]["chat_template_kwargs"] == {"enable_thinking": False}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("think", "thoughts"), [(None, "let me think"), (True, "let me think"), (False, "")])
def test_thoughts_in_the_answer_are_split_from_it(sdk: Any, stream: bool, think: bool | None, thoughts: str) -> None:
    # The fake thinks a second time, in a field of its own, where it is asked to.
    twice = 2 if think else 1
    answer = sdk.chat("qwen", said("[fake aloud]"), think=think, stream=stream)
    parts = list(answer) if stream else [answer]
    assert "".join(part.message.content for part in parts) == WORDS
    assert "".join(part.message.thinking or "" for part in parts) == thoughts * twice
    told = sdk.generate("qwen", "[fake aloud]", think=think)
    assert (told.response, told.thinking or "") == (WORDS, thoughts * twice)


@pytest.mark.parametrize(("model", "name"), [("qwen", "lab"), ("gpt", "cloud")])
def test_not_to_think_is_said_where_that_has_a_name_and_refused_nowhere(
    sdk: Any, model: str, name: str, request: pytest.FixtureRequest
) -> None:
    assert sdk.chat(model, said(), think=False).message.thinking is None
    told = request.getfixturevalue(name).last()["body"]
    assert told.get("chat_template_kwargs") == ({"enable_thinking": False} if model == "qwen" else None)
    assert "reasoning_effort" not in told


def test_a_generation_is_a_chat_there(sdk: Any, lab: Fake) -> None:
    answer = sdk.generate("qwen", "hello", system="be kind", keep_alive="5m")
    assert answer.response == WORDS
    assert lab.last()["path"] == "/v1/chat/completions"
    assert [message["content"] for message in lab.last()["body"]["messages"]] == ["be kind", "hello"]
    assert sdk.generate("qwen").done_reason == "load"


def test_vectors_keep_their_order(sdk: Any) -> None:
    many = sdk.embed("qwen", ["a", "b"])
    assert many.embeddings == [pytest.approx([0.6, 0.8])] * 2
    assert many.prompt_eval_count == 4
    assert sdk.embeddings("qwen", "a").embedding == pytest.approx([0.6, 0.8])


@pytest.mark.parametrize(
    ("path", "field", "value", "param"),
    [
        ("/api/generate", "raw", True, "raw"),
        ("/api/generate", "template", "{{ .Prompt }}", "template"),
        ("/api/generate", "context", [1, 2], "context"),
        ("/api/generate", "suffix", "end", "suffix"),
        ("/api/generate", "options", {"mirostat": 1}, "options.mirostat"),
        ("/api/chat", "options", {"top_k": 5}, "options.top_k"),
    ],
)
def test_what_changes_the_meaning_is_refused_unless_the_loss_is_allowed(
    both: RunningServer, cloud: Fake, key: str, path: str, field: str, value: object, param: str
) -> None:
    asked = cloud.counts()["asked"]
    body = {"model": "gpt", "stream": False, "messages": said(), "prompt": "hi", field: value}
    refused = exchange(both.url, post(path, json.dumps(body).encode(), key))
    assert refused.status == 400
    assert f"'{param}'" in json.loads(refused.body)["error"]
    assert cloud.counts()["asked"] == asked
    allowed = exchange(both.url, post(path, json.dumps(body).encode(), key, "X-Atrium-Allow-Lossy: true"))
    assert (allowed.status, allowed.header("x-atrium-dropped")) == (200, param)


def test_what_is_harmless_is_dropped_and_named(both: RunningServer, key: str) -> None:
    body = {"model": "gpt", "messages": said(), "keep_alive": 5, "options": {"num_gpu": 1, "num_ctx": 64}}
    answer = exchange(both.url, post("/api/chat", json.dumps(body).encode(), key))
    assert answer.status == 200
    assert set((answer.header("x-atrium-dropped") or "").split(", ")) == {
        "keep_alive",
        "options.num_gpu",
        "options.num_ctx",
    }


def test_a_broken_stream_ends_with_an_error_and_without_done(both: RunningServer, key: str) -> None:
    body = {"model": "qwen", "messages": said("[fake broken]")}
    answer = exchange(both.url, post("/api/chat", json.dumps(body).encode(), key))
    lines = [json.loads(line) for line in answer.body.splitlines()]
    assert "it broke" in lines[-1]["error"]
    assert not any(line.get("done") for line in lines)
    assert not answer.whole


@pytest.mark.parametrize(("fault", "status"), [("status=500", 502), ("status=422", 400), ("hang", 504)])
def test_an_endpoints_failure_is_a_text_here(both: RunningServer, key: str, fault: str, status: int) -> None:
    body = {"model": "qwen", "messages": said(f"[fake {fault}]")}
    answer = exchange(both.url, post("/api/chat", json.dumps(body).encode(), key))
    assert answer.status == status
    assert isinstance(json.loads(answer.body)["error"], str)


def test_ollama_to_ollama_and_the_built_in_engine_stay_as_they_are(sdk: Any, den: Fake) -> None:
    sdk.chat("llama3", said(), options={"odd": 1})
    assert den.last()["body"]["options"] == {"odd": 1}
    assert sdk.chat("parrot", said()).message.content
    with pytest.raises(ollama.ResponseError, match="model 'nobody' not found"):
        sdk.chat("nobody", said())


def test_the_callers_key_stays_here(sdk: Any, cloud: Fake, both: RunningServer) -> None:
    sdk.chat("gpt", said())
    headers = dict(cloud.last()["headers"])
    assert headers["authorization"] == "Bearer sk-cloud"
    assert both.key not in json.dumps(cloud.last())
