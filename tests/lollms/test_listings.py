"""What there is: models by type and binding, capabilities, personalities, and what needs an engine first."""

from __future__ import annotations

import httpx2
import pytest

from tests.lollms.endpoints import Endpoint
from tests.running import RunningServer

CHAT, EMBEDDING = "smollm2-135m-instruct", "all-minilm-l6-v2"


def ids(answer: httpx2.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [model["id"] for model in answer.json()["data"]]


def test_the_version_is_told_without_a_key(server: RunningServer) -> None:
    told = httpx2.get(f"{server.url}/version", trust_env=False)
    assert told.status_code == 200
    assert told.json()["version"]


def test_chat_models_come_first_and_name_themselves(client: httpx2.Client, remote: dict[str, Endpoint]) -> None:
    models = client.get("/v1/models?force_refresh=true").json()["data"]
    names = [model["id"] for model in models]
    assert names[0] == CHAT
    assert names[-1] == EMBEDDING
    assert {"vllm-model", "llama3:latest", "openai-model"} <= set(names)
    assert all(model["name"] == model["id"] and model["created"] > 0 for model in models)
    assert len(set(names)) == len(names)
    assert client.get("/v1/models/at-vllm/vllm-model").json()["id"] == "vllm-model"


def test_models_are_listed_by_type_and_binding(client: httpx2.Client, remote: dict[str, Endpoint]) -> None:
    everyone = client.get("/lollms/v1/llm/models").json()["data"]
    assert everyone[0] == {
        "id": f"local/{CHAT}",
        "name": CHAT,
        "model_name": CHAT,
        "binding": "local",
        "object": "model",
    }
    assert ids(client.get("/lollms/v1/llm/models?binding_alias=at-vllm")) == ["at-vllm/vllm-model"]
    assert ids(client.get("/lollms/v1/rag/models")) == [f"local/{EMBEDDING}"]
    for kind in ("tti", "tts", "stt", "ttv", "ttm"):
        assert ids(client.get(f"/lollms/v1/{kind}/models")) == []
    assert client.get("/lollms/v1/nonsense/models").status_code == 404


def test_capabilities_are_those_that_work(client: httpx2.Client, remote: dict[str, Endpoint]) -> None:
    told = client.get("/lollms/v1/capabilities").json()
    assert {"tokenize", "detokenize", "long_context_processing"} <= set(told["capabilities"])
    assert not {"image_generation", "image_editing", "text_to_speech"} & set(told["capabilities"])
    assert set(told["active_bindings"]["llm"]) == {"local", "at-vllm", "at-ollama", "at-openai"}
    assert told["active_bindings"]["tti"] == []


@pytest.mark.parametrize("prefix", ["/lollms/v1", "/v1"])
def test_personalities_are_a_list(client: httpx2.Client, prefix: str) -> None:
    assert client.get(f"{prefix}/personalities").json() == {"object": "list", "data": []}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/lollms/v1/audio/speech"),
        ("GET", "/lollms/v1/audio/voices"),
        ("POST", "/lollms/v1/audio/voices"),
        ("DELETE", "/lollms/v1/audio/voices/alloy"),
        ("POST", "/lollms/v1/audio/transcriptions"),
        ("POST", "/lollms/v1/images/edit"),
    ],
)
def test_what_needs_an_engine_says_which(client: httpx2.Client, method: str, path: str) -> None:
    answer = client.request(method, path, json={} if method == "POST" else None)
    assert answer.status_code == 501
    error = answer.json()["error"]
    assert (error["code"], error["type"], error["param"]) == ("engine_missing", "not_implemented_error", None)
    assert answer.json()["detail"] == error["message"]
    assert "nstall" in error["message"]


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/audio/speech"), ("POST", "/v1/images/generations"), ("GET", "/v1/audio/voices")],
)
def test_the_same_under_v1_in_openais_envelope(client: httpx2.Client, method: str, path: str) -> None:
    answer = client.request(method, path, json={} if method == "POST" else None)
    assert answer.status_code == 501
    assert set(answer.json()) == {"error"}


def test_errors_carry_their_detail(server: RunningServer) -> None:
    unknown = httpx2.get(f"{server.url}/lollms/v1/capabilities", trust_env=False)
    assert unknown.status_code == 401
    assert unknown.headers["www-authenticate"] == "Bearer"
    assert unknown.json()["detail"] == unknown.json()["error"]["message"]
