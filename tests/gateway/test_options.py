"""What a configuration may ask for beside the rule. Contract `olla.md`, sections 3.2, 3.3, 5, 10, 11 and 13."""

from __future__ import annotations

import json
from collections.abc import Generator

import httpx2
import pytest

from tests.gateway.fakes import Fake, gateway
from tests.gateway.wire import exchange, get, post
from tests.running import RunningServer

ECHO = "/olla/openai/echo"
ASKED = ("Origin: https://desk.example", "Access-Control-Request-Method: POST")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningServer]:
    """An endpoint that is never checked and answers everything with 429, before an Ollama and an LM Studio."""
    fakes = [
        Fake("busy", "openai", ("m1",), {"check_interval": 0, "headers": {"X-Fake": "status=429"}}),
        Fake("den", "ollama", ("llama3:latest",), {"priority": 50}),
        Fake("attic", "ollama", ("llama3:latest",), {"priority": 40}),
    ]
    more = {
        "auth": {"required": False},
        "routing": "optimistic",
        "proxy": {"retry_status": [429]},
        "cors": {"origins": ["https://desk.example"]},
        "limits": {"health_per_minute": 60, "burst": 50},
    }
    env = {"ATRIUM_LIMITS__HEALTH_PER_MINUTE": "60"}
    with gateway(tmp_path_factory.mktemp("options"), fakes, more=more, env=env) as server:
        yield server


def test_after_an_answer_that_is_named_the_next_endpoint_is_tried(server: RunningServer) -> None:
    answer = exchange(server.url, post(ECHO, b"anything", kind="text/plain"))
    assert (answer.status, answer.header("x-olla-endpoint")) == (200, "den")
    alone = exchange(server.url, post("/olla/openai/echo", b"x", "X-Olla-Target: busy", kind="text/plain"))
    assert (alone.status, alone.header("x-olla-endpoint")) == (429, "busy")


def test_optimistic_routing_sends_a_model_that_nobody_listed_to_anybody(server: RunningServer) -> None:
    answer = exchange(server.url, post(ECHO, b'{"model": "nobody\'s"}'))
    assert answer.status == 200
    told = [answer.header(f"x-olla-routing-{name}") for name in ("strategy", "decision", "reason")]
    assert told == ["optimistic", "fallback", "model_not_found"]


@pytest.mark.parametrize("target", ["den", "attic"])
def test_what_is_pulled_goes_to_the_endpoint_that_was_named(server: RunningServer, target: str) -> None:
    with server.client() as client:
        asked = {"model": f"new-{target}"}
        answer = client.post("/olla/ollama/api/pull", json=asked, headers={"X-Olla-Target": target})
        assert (answer.status_code, answer.headers["x-olla-endpoint"]) == (200, target)
        found = client.get(f"/olla/models/new-{target}").json()["olla"]["availability"]
    assert [source["endpoint"] for source in found] == [target]


def test_a_named_origin_is_echoed_and_no_other(server: RunningServer) -> None:
    for path in ("/olla/models", ECHO, "/olla/nobody/x", "/internal/status"):
        answer = exchange(server.url, get(path, ASKED[0]))
        assert answer.all("access-control-allow-origin") == ["https://desk.example"]
        assert "Origin" in (answer.header("vary") or "")
        other = exchange(server.url, get(path, "Origin: https://else.example"))
        assert other.header("access-control-allow-origin") is None
    assert exchange(server.url, get(ECHO, *ASKED, method="OPTIONS")).status == 204


def test_the_root_of_a_prefix_is_the_same_without_its_slash(server: RunningServer) -> None:
    for path in ("/olla/ollama", "/olla/ollama/"):
        answer = exchange(server.url, get(path))
        assert (answer.status, answer.body) == (200, b"Ollama is running")


@pytest.mark.parametrize(
    "path", ["/internal/health", "/internal/status", "/olla/models", "/olla/ollama/api/tags", "/olla/openai/v1/models"]
)
def test_whoever_may_get_a_page_may_ask_for_its_head(server: RunningServer, path: str) -> None:
    answer = exchange(server.url, get(path, method="HEAD"), head_only=True)
    assert answer.status == 200
    assert int(answer.header("content-length") or 0) > 0


def test_errors_have_one_envelope_on_every_page(server: RunningServer) -> None:
    for data, status, code in (
        (get("/olla/nobody/x"), 404, "UNKNOWN_PROVIDER"),
        (get("/internal/nothing"), 404, "NOT_FOUND"),
        (get("/olla/vllm/v1/models"), 503, "NO_ENDPOINTS"),
        (post("/olla/vllm/v1/chat/completions", b'{"model": "m"}'), 503, "NO_ENDPOINTS"),
        (post("/olla/models", b"{}"), 405, "METHOD_NOT_ALLOWED"),
        (get("/olla/models?format=xml"), 400, "INVALID_FORMAT"),
        (get("/olla/openai/a/../b"), 400, "INVALID_PATH"),
        (post(ECHO, b"{"), 400, "INVALID_JSON"),
    ):
        answer = exchange(server.url, data)
        error = json.loads(answer.body)["error"]
        assert (answer.status, error["code"]) == (status, code)
        assert all(isinstance(error[name], str) and error[name] for name in ("message", "type", "code"))
        assert answer.header("content-type") == "application/json"
        assert answer.header("x-olla-request-id")
        assert (answer.header("x-olla-response-time") or "").endswith("ms")


def test_the_health_page_has_a_bucket_of_its_own(server: RunningServer) -> None:
    with httpx2.Client(base_url=server.url, trust_env=False) as client:
        answers = [client.get("/internal/health") for _ in range(80)]
        assert {answer.status_code for answer in answers} == {200, 429}
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.json()["error"]["code"] == "RATE_LIMITED"
        assert int(refused.headers["retry-after"]) >= 1
        assert client.get("/olla/models").status_code == 200


def test_a_peer_is_named_to_the_endpoint_and_what_it_made_up_is_not(server: RunningServer) -> None:
    told = exchange(server.url, get(ECHO, "X-Forwarded-Proto: https", "X-Forwarded-Host: made.up", "Via: 1.0 old"))
    headers = dict(json.loads(told.body)["headers"])
    assert (headers["x-forwarded-proto"], headers["x-forwarded-host"]) == ("http", "localhost")
    assert headers["via"] == "1.0 old, 1.1 atrium"
    assert told.header("via") == "1.1 atrium"
