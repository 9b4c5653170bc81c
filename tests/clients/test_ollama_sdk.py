"""The official Ollama SDK, unchanged, against the models that the server brings by itself."""

from __future__ import annotations

import json
import math
from typing import Any, cast

import ollama
import pytest
from jsonschema import validate

from tests.running import RunningServer

CHAT = "smollm2-135m-instruct"
EMBEDDING = "all-minilm-l6-v2"
QUESTION = [{"role": "user", "content": "Say hello."}]
BRIEF = {"num_predict": 12, "temperature": 0}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": ["string"]}}, "required": ["city"]},
    },
}


def host(server: RunningServer, root: str) -> Any:
    return cast("Any", ollama.Client(f"{server.url}{root}", headers={"Authorization": f"Bearer {server.key}"}))


@pytest.fixture
def client(server: RunningServer) -> Any:
    return host(server, "")


@pytest.mark.parametrize("root", ["", "/ollama"])
def test_a_chat_is_the_same_whole_and_streamed_at_both_roots(server: RunningServer, root: str) -> None:
    client = host(server, root)
    whole = client.chat(CHAT, QUESTION, options=BRIEF)
    parts = list(client.chat(CHAT, QUESTION, options=BRIEF, stream=True))
    assert "".join(part.message.content for part in parts) == whole.message.content
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    for last in (whole, parts[-1]):
        assert last.model == CHAT
        assert last.done_reason in ("stop", "length")
        counts = (last.load_duration, last.prompt_eval_count, last.prompt_eval_duration, last.eval_count)
        assert min(*counts, last.eval_duration) > 0
        assert last.total_duration >= last.prompt_eval_duration + last.eval_duration
    assert parts[-1].eval_count == whole.eval_count


async def test_the_async_client_streams(server: RunningServer) -> None:
    client: Any = ollama.AsyncClient(server.url, headers={"Authorization": f"Bearer {server.key}"})
    stream = await client.generate(CHAT, "Say hello.", options=BRIEF, stream=True)
    parts = [part async for part in stream]
    assert "".join(part.response for part in parts)
    assert parts[-1].done


def test_a_conversation_goes_on_from_its_context(client: Any) -> None:
    first = client.generate(CHAT, "My name is Bob.", options=BRIEF)
    assert len(first.context) >= first.prompt_eval_count + first.eval_count
    second = client.generate(CHAT, "What is my name?", context=first.context, options=BRIEF)
    assert second.prompt_eval_count > len(first.context)
    assert second.context[: len(first.context)] == first.context


def test_a_raw_prompt_is_not_touched(client: Any) -> None:
    told = client.generate(CHAT, "one two three", raw=True, options={"num_predict": 1, "temperature": 0})
    assert told.prompt_eval_count == 3
    with pytest.raises(ollama.ResponseError, match="raw mode"):
        client.generate(CHAT, "x", raw=True, system="y")


def test_a_tag_may_be_left_out_or_written(client: Any) -> None:
    for name in (f"{CHAT}:latest", f"local/{CHAT}"):
        assert client.chat(name, QUESTION, options={"num_predict": 1}).model == name


def test_an_answer_has_the_shape_that_was_asked_for(client: Any) -> None:
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
    told = client.chat(CHAT, QUESTION, format=schema, options={"temperature": 1.5, "seed": 3, "num_predict": 200})
    if told.done_reason == "stop":
        validate(json.loads(told.message.content), schema)
    loose = client.generate(CHAT, "Give JSON.", format="json", options={"num_predict": 300, "temperature": 0})
    assert loose.done_reason == "length" or isinstance(json.loads(loose.response), dict)


def test_a_tool_may_be_called_and_its_result_given_back(client: Any) -> None:
    question = [{"role": "user", "content": "What is the weather in Paris? Call get_weather."}]
    told = client.chat(CHAT, question, tools=[WEATHER], options={"temperature": 0, "num_predict": 60})
    for call in told.message.tool_calls or ():
        assert call.function.name == "get_weather"
        assert isinstance(call.function.arguments["city"], str)
    made: dict[str, Any] = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"function": {"name": "get_weather", "arguments": {}}}],
    }
    result = {"role": "tool", "tool_name": "get_weather", "content": "22 C"}
    assert client.chat(CHAT, [*question, made, result], options=BRIEF).message.content


def test_a_model_is_loaded_and_unloaded_without_words(server: RunningServer, client: Any) -> None:
    assert client.generate(CHAT).done_reason == "load"
    with server.client() as plain:
        gone = plain.post("/api/chat", json={"model": CHAT, "keep_alive": 0}).json()
        assert gone["done_reason"] == "unload"
        assert gone["message"] == {"role": "assistant", "content": ""}
        runners = plain.get("/api/admin/runners").json()
        assert CHAT not in {runner["model"] for runner in runners}


def test_vectors_have_length_one_and_keep_their_order(client: Any) -> None:
    many = client.embed(EMBEDDING, ["one", "two"])
    assert [math.hypot(*vector) for vector in many.embeddings] == pytest.approx([1, 1], abs=1e-4)
    alone = client.embed(EMBEDDING, "two")
    assert alone.embeddings[0] == pytest.approx(many.embeddings[1], abs=1e-2)
    old = client.embeddings(EMBEDDING, "two")
    assert old.embedding == pytest.approx(alone.embeddings[0], abs=1e-3)
    assert len(client.embed(EMBEDDING, "two", dimensions=8).embeddings[0]) == 8
    assert client.embed(EMBEDDING, "").embeddings == []
    assert client.embeddings(EMBEDDING, "").embedding == []


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/api/chat", {"model": "nobody"}, 404, "model 'nobody' not found"),
        ("/api/chat", {"messages": []}, 400, "model is required"),
        ("/api/chat", {"model": EMBEDDING, "messages": QUESTION}, 400, f'"{EMBEDDING}" does not support chat'),
        ("/api/generate", {"model": EMBEDDING, "prompt": "x"}, 400, f'"{EMBEDDING}" does not support generate'),
        ("/api/generate", {"model": CHAT, "prompt": "x", "suffix": "y"}, 400, f'"{CHAT}" does not support insert'),
        ("/api/chat", {"model": CHAT, "messages": QUESTION, "think": True}, 400, "does not support thinking"),
        ("/api/embed", {"model": EMBEDDING, "input": "x " * 900, "truncate": False}, 400, "the input length exceeds"),
        ("/api/embed", {"model": EMBEDDING, "input": 3}, 400, "invalid input type"),
    ],
)
def test_what_cannot_be_is_said_in_ollamas_words(
    server: RunningServer, path: str, body: dict[str, Any], status: int, said: str
) -> None:
    with server.client() as plain:
        answer = plain.post(path, json=body)
    assert answer.status_code == status, answer.text
    assert said in answer.json()["error"]


def test_a_body_is_json_whatever_its_type_says(server: RunningServer) -> None:
    body = json.dumps({"model": CHAT, "messages": QUESTION, "options": BRIEF, "think": False})
    with server.client() as plain:
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = plain.post("/ollama/api/chat", content=body, headers=form)
    assert answer.headers["content-type"] == "application/x-ndjson"
    lines = answer.text.splitlines()
    assert json.loads(lines[-1])["done"] is True
    assert all("message" in json.loads(line) for line in lines)


def test_who_runs_here_is_told_without_a_key(server: RunningServer) -> None:
    with server.client(key="none") as plain:
        for place in ("/", "/ollama", "/ollama/"):
            assert plain.get(place).text == "Ollama is running"
            assert plain.head(place).status_code == 200
    with server.client() as plain:
        version = plain.get("/api/version")
        assert version.json()["version"].count(".") == 2
        assert version.headers["x-atrium-version"]
        assert plain.head("/ollama/api/version").status_code == 200
