"""Ollama's wire, byte for byte where its clients look, beside endpoints of both kinds. Contract `ollama.md`."""

from __future__ import annotations

import json
from collections.abc import Generator
from datetime import UTC, datetime
from typing import Any, cast

import ollama
import pytest

from tests.gateway.fakes import Fake, gateway
from tests.gateway.wire import Raw, exchange, get, post
from tests.running import RunningServer

MORE = {"models": {"install_defaults": False, "allow_fake": True}}
MODELS = (
    "fake:parrot?words=5",
    "fake:dropper?words=9&fault=drop@3",
    "fake:small?context=256&words=400&slots=1",
    "fake:vectors?ability=embedding",
)
HI = [{"role": "user", "content": "hi"}]
INSTEAD = (
    "pull model manifest: file does not exist. Take a name that 'atrium models available' lists, or the http or https "
    "address or the absolute path of a GGUF file"
)
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": ["string", "null"]}}, "required": ["city"]},
    },
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningServer]:
    fakes = [Fake("den", "ollama", ("llama3:latest",), v1=False), Fake("lab", "vllm", ("qwen",))]
    with gateway(tmp_path_factory.mktemp("wire"), fakes, more=MORE) as server, server.client() as client:
        for source in MODELS:
            client.post("/api/pull", json={"model": source, "stream": False}).raise_for_status()
        yield server


def ask(server: RunningServer, path: str, body: Any = b"", *, method: str = "POST") -> Raw:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = post(path, data, f"Authorization: Bearer {server.key}")
    return exchange(server.url, request.replace(b"POST", method.encode(), 1))


def lines_of(answer: Raw) -> list[dict[str, Any]]:
    assert answer.header("content-type") == "application/x-ndjson"
    assert answer.body.endswith(b"\n")
    return [json.loads(line) for line in answer.body.removesuffix(b"\n").split(b"\n")]


@pytest.mark.parametrize(("path", "member"), [("/api/chat", "message"), ("/ollama/api/generate", "response")])
def test_a_stream_is_lines_of_objects_and_the_last_one_counts(home: RunningServer, path: str, member: str) -> None:
    *pieces, last = lines_of(ask(home, path, {"model": "parrot", "messages": HI, "prompt": "hi"}))
    assert pieces
    for one in (*pieces, last):
        assert one["model"] == "parrot"
        assert member in one
        assert datetime.fromisoformat(one["created_at"]).tzinfo == UTC
        assert one["created_at"].endswith("Z")
    assert [one["done"] for one in pieces] == [False] * len(pieces)
    assert last[member] == ({"role": "assistant", "content": ""} if member == "message" else "")
    assert (last["done"], last["done_reason"], last["eval_count"]) == (True, "stop", len(pieces) + 1)
    times = [last[f"{name}_duration"] for name in ("load", "prompt_eval", "eval")]
    assert all(isinstance(time, int) and time > 0 for time in times)
    assert last["total_duration"] >= sum(times)
    assert ("context" in last) is (member == "response")


@pytest.mark.parametrize("path", ["/api/chat", "/ollama/api/generate"])
def test_a_stream_that_breaks_ends_with_the_error_and_not_as_a_whole_one(home: RunningServer, path: str) -> None:
    answer = ask(home, path, {"model": "dropper", "messages": HI, "prompt": "hi"})
    *pieces, last = lines_of(answer)
    assert list(last) == ["error"]
    assert isinstance(last["error"], str)
    assert len(pieces) == 3
    assert not any(one["done"] for one in pieces)
    assert not answer.whole
    whole = ask(home, path, {"model": "dropper", "messages": HI, "prompt": "hi", "stream": False})
    assert (whole.status, list(json.loads(whole.body))) == (502, ["error"])


@pytest.mark.parametrize(
    "route",
    ["chat", "generate", "embed", "embeddings", "show", "pull", "push", "create", "copy", "delete"],
)
def test_a_body_that_is_none_is_refused_on_every_route(home: RunningServer, route: str) -> None:
    method = "DELETE" if route == "delete" else "POST"
    for root in ("/api", "/ollama/api"):
        nothing = ask(home, f"{root}/{route}", method=method)
        assert (nothing.status, json.loads(nothing.body)) == (400, {"error": "missing request body"})
        for body in (b"{", b"[]", b'"x"', b"\xff"):
            wrong = ask(home, f"{root}/{route}", body, method=method)
            assert wrong.status == 400, body
            assert isinstance(json.loads(wrong.body)["error"], str)
        nameless = ask(home, f"{root}/{route}", {"messages": HI, "prompt": "x"}, method=method)
        said = "'source' is required and must not be empty" if route == "copy" else "model is required"
        assert (nameless.status, json.loads(nameless.body)) == (400, {"error": said})


def test_every_listed_name_can_be_asked_with_and_without_its_tag(home: RunningServer) -> None:
    client = cast("Any", ollama.Client(home.url, headers={"Authorization": f"Bearer {home.key}"}))
    listed = {model.model for model in client.list().models}
    assert {"parrot:latest", "qwen:latest", "llama3:latest"} <= listed
    for name in listed - {"dropper:latest", "vectors:latest"}:
        for asked in (name, name.removesuffix(":latest")):
            assert client.chat(asked, HI, options={"num_predict": 3}).message.content, asked
    assert client.show("qwen:latest").modelinfo
    with pytest.raises(ollama.ResponseError, match="model 'qwen:7b' not found"):
        client.chat("qwen:7b", HI)


@pytest.mark.parametrize("root", ["", "/ollama"])
async def test_every_call_of_the_async_client(home: RunningServer, root: str) -> None:
    headers = {"Authorization": f"Bearer {home.key}"}
    client = cast("Any", ollama.AsyncClient(f"{home.url}{root}", headers=headers))
    assert [line.status async for line in await client.pull("parrot", stream=True)][-1] == "success"
    await client.create("async", from_="parrot", system="Be kind.")
    await client.copy("async", "other")
    assert {"async:latest", "other:latest"} <= {model.model for model in (await client.list()).models}
    assert (await client.show("other")).modelinfo
    for name in ("other", "qwen", "llama3"):
        whole = await client.chat(name, HI)
        parts = [part async for part in await client.chat(name, HI, stream=True)]
        assert "".join(part.message.content for part in parts) == whole.message.content
        said = await client.generate(name, "hi", stream=False)
        pieces = [part async for part in await client.generate(name, "hi", stream=True)]
        assert "".join(part.response for part in pieces) == said.response
    for name in ("vectors", "qwen", "llama3"):
        assert len((await client.embed(name, ["a", "b"])).embeddings) == 2
        assert (await client.embeddings(name, "a")).embedding
    assert "other:latest" in {model.model for model in (await client.ps()).models}
    for name in ("async", "other"):
        await client.delete(name)
    with pytest.raises(ollama.ResponseError) as refused:
        await client.push("parrot")
    assert refused.value.status_code == 501


@pytest.mark.parametrize(
    ("keep_alive", "seconds"), [(3600, 3600), ("5m", 300), ("1h30m", 5400), ("90s", 90), (1.5e3, 1500), ("600", 600)]
)
def test_a_model_stays_as_long_as_it_was_told_to(home: RunningServer, keep_alive: object, seconds: float) -> None:
    before = datetime.now(UTC)
    assert json.loads(ask(home, "/api/generate", {"model": "parrot", "keep_alive": keep_alive}).body)["done"]
    listed = json.loads(exchange(home.url, get("/api/ps", f"Authorization: Bearer {home.key}")).body)["models"]
    ends = [one["expires_at"] for one in listed]
    assert ends == sorted(ends, reverse=True)
    [own] = [datetime.fromisoformat(one["expires_at"]) for one in listed if one["name"] == "parrot:latest"]
    assert before.timestamp() + seconds - 1 <= own.timestamp() <= datetime.now(UTC).timestamp() + seconds + 1


@pytest.mark.parametrize("keep_alive", [0, "0", "0s"])
def test_a_model_that_is_to_go_is_gone_when_the_answer_comes(home: RunningServer, keep_alive: object) -> None:
    ask(home, "/api/chat", {"model": "parrot", "keep_alive": -1})
    answer = json.loads(ask(home, "/api/chat", {"model": "parrot", "keep_alive": keep_alive}).body)
    assert answer["done_reason"] == "unload"
    listed = json.loads(exchange(home.url, get("/ollama/api/ps", f"Authorization: Bearer {home.key}")).body)["models"]
    assert "parrot:latest" not in {one["name"] for one in listed}


def test_a_model_that_is_to_go_after_an_answer_is_gone_when_that_is_whole(home: RunningServer) -> None:
    for path in ("/api/chat", "/api/generate"):
        body = {"model": "parrot", "messages": HI, "prompt": "hi", "stream": False, "keep_alive": 0}
        assert json.loads(ask(home, path, body).body)["done_reason"] == "stop"
        listed = exchange(home.url, get("/api/ps", f"Authorization: Bearer {home.key}")).body
        assert "parrot:latest" not in {one["name"] for one in json.loads(listed)["models"]}


def test_a_model_that_makes_vectors_goes_as_well(home: RunningServer) -> None:
    def loaded() -> int:
        """The window that it is loaded with; 0: it is not."""
        listed = exchange(home.url, get("/api/ps", f"Authorization: Bearer {home.key}")).body
        rows = [one for one in json.loads(listed)["models"] if one["name"] == "vectors:latest"]
        return rows[0]["context_length"] if rows else 0

    asked = {"model": "vectors", "input": "a", "keep_alive": -1, "options": {"num_ctx": 300, "num_gpu": 1}}
    answer = ask(home, "/api/embed", asked)
    assert (answer.status, answer.header("x-atrium-dropped")) == (200, "options.num_gpu")
    assert loaded() == 300
    refused = ask(home, "/api/generate", {"model": "vectors", "keep_alive": 5})
    assert (refused.status, json.loads(refused.body)["error"]) == (400, '"vectors" does not support generate')
    assert json.loads(ask(home, "/api/generate", {"model": "vectors", "keep_alive": 0}).body)["done_reason"] == "unload"
    assert not loaded()


@pytest.mark.parametrize("wrong", ["soon", "5 m", "", True, {}, [5]])
def test_a_stay_that_is_none_is_refused(home: RunningServer, wrong: object) -> None:
    answer = ask(home, "/api/generate", {"model": "parrot", "keep_alive": wrong})
    assert (answer.status, "invalid keep_alive" in json.loads(answer.body)["error"]) == (400, True)


def test_an_answer_ends_where_it_is_told_to(home: RunningServer) -> None:
    def chat(**options: object) -> dict[str, Any]:
        body = {"model": "parrot", "messages": HI, "stream": False, "options": options}
        return json.loads(ask(home, "/api/chat", body).body)

    whole = chat()["message"]["content"]
    words = whole.split(" ")
    assert chat(num_predict=2)["done_reason"] == "length"
    for unlimited in (-1, -2):
        assert chat(num_predict=unlimited)["done_reason"] == "stop"
    for stop in (f" {words[3]}", ["nowhere", f" {words[3]}"]):
        stopped = chat(stop=stop)
        assert (stopped["message"]["content"], stopped["done_reason"]) == (" ".join(words[:3]), "stop")
    assert chat(think=True, odd={"a": 1}, temperature=None)["message"]["content"] == whole


def test_what_does_not_fit_loses_its_oldest_turns_or_is_refused_with_both_lengths(home: RunningServer) -> None:
    turns = [
        {"role": "user", "content": "old " * 60},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "new"},
    ]
    brief = {"model": "small", "messages": turns, "stream": False, "options": {"num_predict": 2}}
    kept = json.loads(ask(home, "/api/chat", brief).body)
    alone = json.loads(ask(home, "/api/chat", {**brief, "messages": turns[-1:]}).body)
    assert kept["prompt_eval_count"] == alone["prompt_eval_count"]
    refused = ask(home, "/api/chat", {**brief, "truncate": False})
    assert refused.status == 400
    assert "286 tokens" in json.loads(refused.body)["error"]
    assert "256" in json.loads(refused.body)["error"]


@pytest.mark.parametrize("shift", [True, False])
def test_an_answer_without_a_bound_ends_with_the_window(home: RunningServer, shift: bool) -> None:
    body = {"model": "small", "messages": HI, "stream": False, "shift": shift, "options": {"num_predict": -1}}
    answer = json.loads(ask(home, "/api/chat", body).body)
    assert answer["done_reason"] == "length"
    assert answer["prompt_eval_count"] + answer["eval_count"] == 256


def test_a_shape_that_is_cut_off_says_so(home: RunningServer) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "minLength": 40}}, "required": ["a"]}
    body = {"model": "parrot", "messages": HI, "format": schema, "stream": False}
    whole = json.loads(ask(home, "/api/chat", body).body)
    assert len(json.loads(whole["message"]["content"])["a"]) >= 40
    assert whole["done_reason"] == "stop"
    cut = json.loads(ask(home, "/api/chat", {**body, "options": {"num_predict": 3}}).body)
    assert cut["done_reason"] == "length"


def test_tools_may_be_none_and_types_may_be_lists(home: RunningServer) -> None:
    for tools in (None, [], [WEATHER]):
        body = {"model": "parrot", "messages": HI, "tools": tools, "stream": False}
        answer = ask(home, "/api/chat", body)
        assert answer.status == 200, answer.body


@pytest.mark.parametrize("name", ["parrot", "llama3", "qwen"])
def test_not_to_think_is_always_accepted(home: RunningServer, name: str) -> None:
    body = {"model": name, "messages": HI, "think": False, "stream": False}
    assert json.loads(ask(home, "/api/chat", body).body)["message"]["content"]


def test_chances_are_told_where_they_are_asked_for(home: RunningServer) -> None:
    body = {"model": "parrot", "prompt": "hi", "logprobs": True, "top_logprobs": 2, "stream": False}
    answer = json.loads(ask(home, "/api/generate", body).body)
    assert len(answer["logprobs"]) == answer["eval_count"] - 1
    for one in answer["logprobs"]:
        assert bytes(one["bytes"]).decode() == one["token"]
        assert len(one["top_logprobs"]) == 2


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("nobody", "pull model manifest: file does not exist"),
        ("library/nobody:7b", INSTEAD),
        ("llama3.2:1b", INSTEAD),
        ("hf.co/somebody/something:Q4_K_M", INSTEAD),
        ("/nowhere/a.gguf", "pull model manifest: file does not exist"),
    ],
)
def test_what_cannot_be_pulled_is_said_in_one_way_whole_and_streamed(
    home: RunningServer, model: str, said: str
) -> None:
    *before, last = lines_of(ask(home, "/api/pull", {"model": model}))
    assert before == [{"status": "pulling manifest"}]
    assert last == {"error": said}
    whole = ask(home, "/ollama/api/pull", {"name": model, "stream": False})
    assert (whole.status, json.loads(whole.body)) == (404, {"error": said})


def test_a_pull_of_what_was_nearly_named_says_what_was_meant(home: RunningServer) -> None:
    whole = ask(home, "/api/pull", {"model": "smollm2-135m", "stream": False, "insecure": True})
    assert (whole.status, whole.header("x-atrium-dropped")) == (404, None)
    assert json.loads(whole.body)["error"].startswith("pull model manifest: file does not exist. Did you mean smollm2")
    there = ask(home, "/api/pull", {"model": "parrot:latest", "insecure": True})
    assert [line["status"] for line in lines_of(there)] == ["pulling manifest", "writing manifest", "success"]
    assert there.header("x-atrium-dropped") == "insecure"


@pytest.mark.parametrize("stream", [True, False])
def test_a_model_of_none_is_refused_before_anything_is_told(home: RunningServer, stream: bool) -> None:
    answer = ask(home, "/api/create", {"model": "x", "from": "nobody", "stream": stream})
    assert (answer.status, json.loads(answer.body)) == (404, {"error": "model 'nobody' not found"})


def test_an_endpoints_model_is_here_for_who_pulls_it_and_is_not_changed(home: RunningServer) -> None:
    for name in ("qwen", "lab/qwen", "llama3:latest"):
        assert json.loads(ask(home, "/api/pull", {"model": name, "stream": False}).body) == {"status": "success"}
        for path, body in (("copy", {"source": name, "destination": "x"}), ("create", {"model": "x", "from": name})):
            refused = ask(home, f"/api/{path}", body)
            assert (refused.status, "is an endpoint's" in json.loads(refused.body)["error"]) == (400, True)


def test_parameters_of_no_use_here_are_named_when_a_model_is_made(home: RunningServer) -> None:
    parameters = {"num_gpu": 1, "temperature": 0.5, "mirostat": 1, "mirostat_tau": 3}
    made = ask(home, "/api/create", {"model": "tuned", "from": "parrot", "parameters": parameters})
    assert (made.status, lines_of(made)[-1]) == (200, {"status": "success"})
    assert made.header("x-atrium-dropped") == "parameters.num_gpu, parameters.mirostat, parameters.mirostat_tau"
    shown = json.loads(ask(home, "/api/show", {"model": "tuned"}).body)
    assert shown["parameters"].split() == ["temperature", "0.5"]
    assert ask(home, "/api/delete", {"model": "tuned"}, method="DELETE").status == 200


@pytest.mark.parametrize("name", ["../x", "a/../b", "/x", "a//b", "x/", "."])
def test_names_that_lead_elsewhere_are_none(home: RunningServer, name: str) -> None:
    copied = ask(home, "/api/copy", {"source": "parrot", "destination": name})
    assert (copied.status, "a model's name has" in json.loads(copied.body)["error"]) == (400, True)
    made = ask(home, "/api/create", {"model": name, "from": "parrot", "stream": False})
    assert made.status == 400


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/api/nothing", 404),
        ("POST", "/ollama/api/nothing", 404),
        ("GET", "/api/chat", 405),
        ("GET", "/ollama/api/generate", 405),
        ("POST", "/api/tags", 405),
        ("POST", "/api/delete", 405),
    ],
)
def test_every_error_is_a_text(home: RunningServer, method: str, path: str, status: int) -> None:
    answer = ask(home, path, {}, method=method)
    assert answer.status == status
    assert isinstance(json.loads(answer.body)["error"], str)


@pytest.mark.parametrize("path", ["/", "/ollama", "/ollama/", "/api/tags", "/api/version", "/api/ps"])
def test_a_head_is_answered_without_a_body(home: RunningServer, path: str) -> None:
    request = get(path, f"Authorization: Bearer {home.key}", method="HEAD")
    assert exchange(home.url, request, head_only=True).status == 200
