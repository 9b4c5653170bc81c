"""Balancing over real endpoints: turns, load, sessions, and the built-in engine among the others."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.gateway.fakes import Fake, gateway
from tests.gateway.wire import exchange, post
from tests.running import RunningServer

CHAT = "/olla/openai/v1/chat/completions"
OPEN = {"auth": {"required": False}}
HELLO = b'{"model": "m1", "messages": [{"role": "user", "content": "hello"}]}'


def three() -> list[Fake]:
    return [Fake(name, "openai", ("m1",)) for name in ("one", "two", "three")]


def test_equals_take_turns_and_unrelated_traffic_skews_nobody(tmp_path: Path) -> None:
    with gateway(
        tmp_path, [*three(), Fake("other", "openai", ("m2",))], more={**OPEN, "balancer": "round-robin"}
    ) as server:
        seen: list[str | None] = []
        for _ in range(9):
            exchange(server.url, post(CHAT, b'{"model": "m2"}'))
            seen.append(exchange(server.url, post(CHAT, HELLO)).header("x-olla-endpoint"))
        assert Counter(seen) == {"one": 3, "two": 3, "three": 3}
        assert seen[:3] == seen[3:6] == seen[6:]


def test_the_least_busy_is_asked(tmp_path: Path) -> None:
    more = {**OPEN, "balancer": "least-connections"}
    with gateway(tmp_path, three(), more=more) as server, ThreadPoolExecutor(9) as pool:
        asking = [pool.submit(exchange, server.url, post(CHAT, HELLO, "X-Fake: slow=500ms")) for _ in range(9)]
        assert Counter(one.result().header("x-olla-endpoint") for one in asking) == {"one": 3, "two": 3, "three": 3}


def test_who_has_the_model_in_memory_is_asked_first_where_that_is_wanted(tmp_path: Path) -> None:
    # The fake has the first of its models in memory.
    fakes = [Fake("one", "ollama", ("m1", "m2")), Fake("two", "ollama", ("m2", "m1"))]
    with gateway(tmp_path, fakes, more={**OPEN, "warm_first": True}) as server:
        asked = [(model, post(CHAT, HELLO.replace(b"m1", model))) for model in (b"m1", b"m2") for _ in range(3)]
        seen = Counter((model, exchange(server.url, data).header("x-olla-endpoint")) for model, data in asked)
        assert seen == {(b"m1", "one"): 3, (b"m2", "two"): 3}


def test_a_conversation_stays_where_it_was(tmp_path: Path) -> None:
    fakes = three()
    with gateway(tmp_path, fakes, more={**OPEN, "sticky_sessions": {"enabled": True}}) as server:
        first = exchange(server.url, post(CHAT, HELLO, "X-Olla-Session-ID: s1"))
        assert first.header("x-olla-sticky-session") == "miss"
        assert first.header("x-olla-sticky-key-source") == "session_header"
        assert first.header("x-olla-session-id") == "s1"
        home = first.header("x-olla-endpoint")
        for _ in range(4):
            again = exchange(server.url, post(CHAT, HELLO, "X-Olla-Session-ID: s1"))
            assert (again.header("x-olla-sticky-session"), again.header("x-olla-endpoint")) == ("hit", home)
        by_prefix = exchange(server.url, post(CHAT, HELLO))
        assert by_prefix.header("x-olla-sticky-key-source") == "prefix_hash"
        next(fake for fake in fakes if fake.name == home).kill()
        exchange(server.url, post(CHAT, HELLO, "X-Olla-Session-ID: s1"))
        moved = exchange(server.url, post(CHAT, HELLO, "X-Olla-Session-ID: s1"))
        assert moved.header("x-olla-endpoint") != home
        told = server.client().get("/internal/stats/sticky").json()
        assert told["enabled"] is True
        assert told["hits"] >= 4
        next(fake for fake in fakes if fake.name == home).start()


def assert_it_stands_on_every_page(server: RunningServer) -> None:
    with server.client() as client:
        overview = client.get("/internal/status").json()
        row = overview["endpoints"][-1]
        assert (row["name"], row["type"], row["url"], row["priority"]) == ("local", "atrium", "", 0)
        assert (row["requests"], row["models"]["count"], overview["system"]["endpoints_up"]) == (2, 1, "2/2")
        full = client.get("/internal/status/endpoints").json()
        assert (full["total_count"], full["healthy_count"], full["endpoints"][-1]["request_count"]) == (2, 2, 2)
        models = client.get("/internal/status/models").json()
        assert (models["total_models"], models["total_endpoints"]) == (2, 2)
        mine = next(one for one in models["recent_models"] if one["name"] == "mine")
        assert (mine["endpoints"], mine["endpoint_ids"]) == (["local"], ["local"])
        stats = client.get("/internal/stats/models?include_endpoints=true&include_summary=true").json()
        told = next(one for one in stats["models"] if one["name"] == "mine")
        assert told["endpoint_breakdown"]["local"]["request_count"] == 2
        assert stats["endpoints"]["local"]["request_count"] == 2


def test_the_built_in_engine_is_an_endpoint_like_any_other(tmp_path: Path) -> None:
    env = {"ATRIUM_MODELS__ALLOW_FAKE": "true"}
    with gateway(tmp_path, [Fake("one", "openai", ("m1",))], more=OPEN, env=env) as server:
        server.install("fake:mine")
        body = b'{"model": "mine", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 5}'
        answer = exchange(server.url, post(CHAT, body, "X-Request-ID: here"))
        assert answer.status == 200, answer.body
        assert json.loads(answer.body)["usage"]["completion_tokens"] == 5
        assert answer.header("x-olla-request-id") == "here"
        assert answer.header("x-olla-endpoint") == "local"
        assert answer.header("x-olla-backend-type") == "atrium"
        assert answer.header("x-olla-model") == "mine"
        models = server.client().get("/olla/models").json()["data"]
        assert {model["id"] for model in models} == {"m1", "mine"}
        sources = next(model["olla"]["availability"] for model in models if model["id"] == "mine")
        assert sources[0]["endpoint"] == "local"
        bad = exchange(server.url, post(CHAT, b'{"model": "mine", "messages": "no"}'))
        assert bad.status == 400
        assert set(json.loads(bad.body)["error"]) == {"message", "type", "code"}
        assert exchange(server.url, post("/v1/chat/completions", body)).status == 200
        assert_it_stands_on_every_page(server)
        assert exchange(server.url, post("/v1/chat/completions", HELLO)).header("x-olla-endpoint") == "one"
