"""The gateway's own pages. Contract `olla.md`, sections 3.3, 4, 10 and 12."""

from __future__ import annotations

import re
from collections.abc import Generator

import httpx2
import pytest

from tests.running import RunningServer


@pytest.fixture
def client(relay: RunningServer) -> Generator[httpx2.Client]:
    with relay.client() as client:
        yield client


def ids(answer: httpx2.Response) -> list[str]:
    return [model["id"] for model in answer.json()["data"]]


def test_every_model_stands_once_with_all_its_sources(client: httpx2.Client) -> None:
    models = {model["id"]: model for model in client.get("/olla/models").json()["data"]}
    assert set(models) == {"m1", "org/m2", "llama3:latest", "phi3:mini"}
    m1 = models["m1"]
    assert m1["owned_by"] == "olla"
    assert [source["endpoint"] for source in m1["olla"]["availability"]] == ["alpha", "gamma"]
    assert m1["olla"]["aliases"] == ["m1", "fast"]
    assert models["llama3:latest"]["olla"]["quantization"] == "Q4_0"
    assert m1["created"] == client.get("/olla/models").json()["data"][1]["created"] == 1767225600


@pytest.mark.parametrize("form", ["openai", "vllm", "lmstudio", "lm-studio", "ollama"])
def test_each_format_has_its_shape(client: httpx2.Client, form: str) -> None:
    answer = client.get("/olla/models", params={"format": form}).json()
    first = (answer["models"] if form == "ollama" else answer["data"])[0]
    expected = {
        "openai": {"id", "object", "created", "owned_by"},
        "vllm": {"root", "parent", "permission"},
        "lmstudio": {"type", "state", "publisher"},
        "ollama": {"name", "model", "modified_at", "size", "digest", "details"},
    }
    assert expected[form.replace("-", "")] <= set(first)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"endpoint": "gamma"}, ["m1"]),
        ({"endpoint": "nobody"}, []),
        ({"family": "fake", "type": "llm"}, ["llama3:latest", "phi3:mini"]),
        ({"type": "embeddings"}, []),
        ({"capability": "vision"}, []),
        ({"available": "false"}, []),
    ],
)
def test_filters_combine(client: httpx2.Client, query: dict[str, str], found: list[str]) -> None:
    assert ids(client.get("/olla/models", params=query)) == found


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"format": "xml"}, "INVALID_FORMAT"),
        ({"available": "maybe"}, "INVALID_PARAMETER"),
        ({"type": "x"}, "INVALID_PARAMETER"),
    ],
)
def test_a_wrong_filter_is_named(client: httpx2.Client, query: dict[str, str], code: str) -> None:
    answer = client.get("/olla/models", params=query)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)


@pytest.mark.parametrize("name", ["org/m2", "org%2Fm2", "fast", "llama3", "LLAMA3:latest"])
def test_one_model_by_any_of_its_names(client: httpx2.Client, name: str) -> None:
    assert client.get(f"/olla/models/{name}").json()["object"] == "model"


def test_an_unknown_model_and_an_unknown_provider_are_not_found(client: httpx2.Client) -> None:
    assert client.get("/olla/models/none").json()["error"]["code"] == "MODEL_NOT_FOUND"
    assert client.get("/olla/nobody/v1/models").json()["error"]["code"] == "UNKNOWN_PROVIDER"
    assert client.get("/internal/nothing").json()["error"]["code"] == "NOT_FOUND"


def test_merged_lists_are_those_of_the_prefix(client: httpx2.Client) -> None:
    assert ids(client.get("/olla/openai/v1/models")) == ["llama3:latest", "m1", "org/m2", "phi3:mini"]
    assert ids(client.get("/olla/lm_studio/v1/models")) == ["m1"]
    assert ids(client.get("/olla/proxy/v1/models")) == ["llama3:latest", "m1", "org/m2", "phi3:mini"]
    tags = client.get("/olla/ollama/api/tags").json()["models"]
    assert [tag["name"] for tag in tags] == ["llama3:latest", "phi3:mini"]
    assert tags[0]["details"]["parameter_size"] == "1B"
    assert client.get("/olla/ollama/api/ps").json()["models"][0]["name"] == "llama3:latest"
    assert client.get("/olla/openai/v1/models/org/m2").json()["id"] == "org/m2"
    nobody = client.get("/olla/vllm/v1/models")
    assert (nobody.status_code, nobody.json()["error"]["code"]) == (503, "NO_ENDPOINTS")
    assert int(nobody.headers["retry-after"]) >= 1


@pytest.mark.parametrize("path", ["/olla/models", "/internal/status", "/olla/ollama/api/tags", "/internal/health"])
def test_a_wrong_method_is_told_which_are_right(client: httpx2.Client, path: str) -> None:
    answer = client.post(path)
    assert answer.status_code == 405
    assert "GET" in answer.headers["allow"]
    assert answer.json()["error"]["code"] == "METHOD_NOT_ALLOWED"


@pytest.mark.parametrize(
    "path", ["/olla/models", "/internal/status", "/olla/x/y", "/olla/openai/echo", "/internal/health"]
)
def test_browsers_of_other_origins_are_answered(client: httpx2.Client, path: str) -> None:
    answer = client.get(path, headers={"Origin": "http://elsewhere"})
    assert answer.headers.get_list("access-control-allow-origin") == ["*"]
    assert "X-Olla-Endpoint" in answer.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in answer.headers
    asking = {"Origin": "http://elsewhere", "Access-Control-Request-Method": "POST", "Authorization": ""}
    preflight = httpx2.options(f"{client.base_url}{path}".replace("//olla", "/olla"), headers=asking, trust_env=False)
    assert preflight.status_code == 204
    assert preflight.headers["access-control-max-age"] == "300"


def test_the_status_tells_of_every_endpoint_in_order(client: httpx2.Client) -> None:
    status = client.get("/internal/status").json()
    assert [one["name"] for one in status["endpoints"]] == ["alpha", "delta", "beta", "gamma"]
    assert [one["status"] for one in status["endpoints"]] == ["healthy", "offline", "healthy", "healthy"]
    assert status["proxy"]["balancer"] == "priority"
    assert status["system"]["endpoints_up"] == "3/4"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", status["timestamp"])
    assert status["endpoints"][1]["issues"] == "unavailable"
    text = client.get("/internal/status").text + client.get("/internal/status/endpoints").text
    assert "sk-endpoint" not in text
    full = client.get("/internal/status/endpoints").json()
    assert (full["total_count"], full["healthy_count"], full["routable_count"]) == (4, 3, 3)


def test_a_reader_who_has_it_already_is_told_so(client: httpx2.Client) -> None:
    first = client.get("/internal/status/models")
    assert first.headers["etag"].startswith('W/"')
    again = client.get("/internal/status/models", headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304


def test_a_request_counts_once_however_often_it_was_tried(client: httpx2.Client) -> None:
    before = client.get("/internal/status").json()["system"]
    client.post("/olla/openai/v1/chat/completions", json={"model": "org/m2"})
    client.post("/olla/openai/v1/chat/completions", json={"model": "none"})
    client.get("/olla/models")
    after = client.get("/internal/status").json()["system"]
    assert after["total_requests"] - before["total_requests"] == 2
    rows = {row["name"]: row for row in client.get("/internal/stats/models?include_endpoints=true").json()["models"]}
    assert rows["org/m2"]["successful_requests"] >= 1
    assert "none" not in rows
    assert rows["org/m2"]["endpoint_breakdown"]["alpha"]["request_count"] >= 1


def test_the_remaining_documents_have_their_members(client: httpx2.Client) -> None:
    assert client.get("/internal/stats/sticky").json() == {"enabled": False}
    translators = client.get("/internal/stats/translators").json()["translators"]
    assert {one["translator_name"] for one in translators} == {"openai-to-ollama", "ollama-to-openai"}
    process = client.get("/internal/process").json()
    assert process["runtime"]["pid"] > 0
    assert {"memory", "garbage_collection", "goroutines", "runtime", "allocations"} <= set(process)
    models = client.get("/internal/status/models?detailed=true&group=family").json()
    assert models["total_models"] == 4
    assert {group["family"] for group in models["model_groups"]} == {"fake", "unknown"}
    metrics = client.get("/internal/metrics").text
    assert "olla_requests_total" in metrics
    assert 'olla_endpoint_up{endpoint="alpha"} 1.0' in metrics


def test_status_pages_are_the_administrators(relay: RunningServer, client: httpx2.Client) -> None:
    client.post("/api/admin/users", json={"username": "bob"})
    own = client.post("/api/admin/keys", json={"username": "bob", "alias": "b"}).json()["full_key"]
    with relay.client(key=own) as user:
        assert user.get("/internal/status").json()["error"]["code"] == "FORBIDDEN"
        assert user.get("/olla/models").status_code == 200
    assert httpx2.get(f"{relay.url}/internal/status", trust_env=False).json()["error"]["code"] == "INVALID_API_KEY"
