"""Clients and endpoints with manners of their own: odd spellings, odd moments, odd heads. Contract `olla.md`."""

from __future__ import annotations

import json
import re
import socket
from contextlib import suppress
from pathlib import Path

import pytest

from tests.gateway.fakes import Fake, gateway
from tests.gateway.wire import connect, exchange, get, post, read_answer
from tests.running import RunningServer, command

CHAT = "/olla/openai/v1/chat/completions"
HELLO = b'{"model": "m1", "messages": []}'
OPEN = {"auth": {"required": False}}


@pytest.fixture
def key(relay: RunningServer) -> str:
    return f"Authorization: Bearer {relay.key}"


def code_of(body: bytes) -> str:
    return json.loads(body)["error"]["code"]


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", "application/vnd.api+json"])
def test_a_json_body_is_read_whatever_curl_calls_it(relay: RunningServer, key: str, kind: str) -> None:
    answer = exchange(relay.url, post("/olla/openai/echo", b'  {"model": "LLAMA3"}', key, kind=kind))
    assert (answer.status, answer.header("x-olla-endpoint")) == (200, "beta")
    assert exchange(relay.url, post("/olla/openai/echo", b'{"model": "none"}', key, kind=kind)).status == 404


def test_an_alias_in_a_form_is_replaced_there_and_nowhere_else(relay: RunningServer, key: str) -> None:
    part = '--B\r\nContent-Disposition: form-data; name="{}"{}\r\n\r\n{}\r\n'
    fake_field = 'x\r\nContent-Disposition: form-data; name="model"\r\n\r\nfast\r\n'
    body = part.format("file", '; filename="a.wav"', fake_field) + part.format("model", "", "fast")
    body += part.format("prompt", "", "fast") + "--B--\r\n"
    answer = exchange(
        relay.url, post("/olla/openai/echo", body.encode(), key, kind='multipart/form-data; boundary="B"')
    )
    told = json.loads(answer.body)
    wanted = part.format("model", "", "fast")
    assert told["body"] == body.replace(wanted, wanted.replace("fast", "m1"))
    assert dict(told["headers"])["content-length"] == str(len(told["body"]))
    assert answer.header("x-olla-model") == "m1"


@pytest.mark.parametrize(
    "path", ["/olla/OLLAMA/api/tags", "/olla/OpenAI/v1/models", "/olla/Lm-Studio/v1/models", "/olla/models/"]
)
def test_a_prefix_is_found_however_it_is_spelled(relay: RunningServer, key: str, path: str) -> None:
    answer = exchange(relay.url, get(path, key))
    assert answer.status == 200
    assert json.loads(answer.body).get("data") or json.loads(answer.body)["models"]


def test_an_address_may_be_given_whole(relay: RunningServer, key: str) -> None:
    for path in ("/olla/openai/echo?a=b", "/olla/models"):
        assert exchange(relay.url, get(f"http://localhost{path}", key)).status == 200


@pytest.mark.parametrize("path", ["/olla/openai/v1/realtime", "/internal/status", "/v1/models", "/nowhere"])
def test_websocket_is_not_offered_anywhere(relay: RunningServer, key: str, path: str) -> None:
    more = ("Connection: keep-alive, Upgrade", "Upgrade: WebSocket", "Sec-WebSocket-Key: x")
    answer = exchange(relay.url, get(path, key, *more))
    assert answer.status == 501
    assert code_of(answer.body).lower() == "not_implemented"


def test_an_offer_of_http2_is_passed_over_and_the_next_request_is_heard(relay: RunningServer, key: str) -> None:
    offer = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")
    for first in (
        get("/internal/health", *offer),
        get("/olla/openai/echo", key, *offer),
        post(CHAT, HELLO, key, *offer),
    ):
        with connect(relay.url) as line:
            line.sendall(first)
            assert read_answer(line).status == 200
            line.sendall(get("/olla/openai/echo", key, "X-Second: 1"))
            assert b"x-second" in read_answer(line).body


@pytest.mark.parametrize("offer", ["h2c", "websocket"])
@pytest.mark.parametrize("path", ["/olla/openai/echo", "/internal/health"])
def test_a_body_behind_an_offer_is_never_a_request(relay: RunningServer, key: str, path: str, offer: str) -> None:
    hidden = get("/olla/models", key, "Connection: close")
    whole = post(path, hidden, key, "Connection: Upgrade", f"Upgrade: {offer}")
    with connect(relay.url) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line.sendall(whole[: -len(hidden) - 10])
        with relay.client() as client:
            assert client.get("/internal/health").status_code == 200
        with suppress(ConnectionError):
            line.sendall(whole[-len(hidden) - 10 :])
            line.sendall(get("/internal/health", "Connection: close"))
            assert b'"object":"list"' not in line.makefile("rb").read()


def test_a_head_over_the_limit_is_refused_however_it_arrives(tmp_path: Path) -> None:
    with gateway(tmp_path, [Fake("one")], more={**OPEN, "limits": {"max_header": "8KB"}}) as server:
        long = get("/olla/openai/echo", *(f"X-Long-{i}: {'y' * 1000}" for i in range(9)))
        for path in (b"/olla/openai/echo", b"/internal/health"):
            answer = exchange(server.url, long.replace(b"/olla/openai/echo", path))
            assert (answer.status, code_of(answer.body)) == (431, "HEADERS_TOO_LARGE")
            assert answer.header("x-olla-request-id")
            assert answer.header("access-control-allow-origin") == "*"
            assert answer.header("connection") == "close"
        assert exchange(server.url, get("/olla/openai/echo", f"X-Long: {'y' * 7000}")).status == 200
        violations = json.loads(exchange(server.url, get("/internal/status")).body)["security"]["violations"]
        assert violations == {"rate_limits": 0, "size_limits": 2}


@pytest.mark.parametrize(
    "body", [b"zz\r\nhello\r\n0\r\n\r\n", b"5\r\nhelloXX0\r\n\r\n", b"-1\r\n\r\n", b"5;\x00\r\nhello\r\n0\r\n\r\n"]
)
def test_a_body_that_is_no_chunks_is_refused_in_the_words_of_its_path(
    relay: RunningServer, key: str, body: bytes
) -> None:
    head = f"Host: localhost\r\n{key}\r\nX-Request-ID: bad-1\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    for path in (CHAT, "/v1/chat/completions"):
        answer = exchange(relay.url, f"POST {path} HTTP/1.1\r\n".encode() + head + body)
        assert answer.status == 400
        error = json.loads(answer.body)["error"]
        assert (error["type"] == "bad_request") == path.startswith("/olla")
        assert answer.header("x-request-id") == "bad-1"


def test_what_changes_models_is_the_administrators_however_the_path_is_written(relay: RunningServer, key: str) -> None:
    with relay.client() as client:
        client.post("/api/admin/users", json={"username": "dan"})
        user = client.post("/api/admin/keys", json={"username": "dan", "alias": "d"}).json()["full_key"]
    own = f"Authorization: Bearer {user}"
    body = b'{"model": "phi3:mini"}'
    for path in ("/api/delete", "/api/%64elete", "//api//delete", "/api/delete/", "/api/blobs/sha256:0"):
        for prefix in ("ollama", "openai", "proxy"):
            assert exchange(relay.url, post(f"/olla/{prefix}{path}", body, own)).status == 403, path
    elsewhere = ("lmstudio/api/v1/models/unload", "openai/slots/0?action=erase", "openai/props", "openai/flush_cache")
    for path in elsewhere:
        assert exchange(relay.url, post(f"/olla/{path}", body, own)).status == 403, path
    assert exchange(relay.url, get("/olla/openai/v1/models/m1", own, method="DELETE")).status == 403
    assert exchange(relay.url, get("/olla/ollama/api/blobs/sha256:0", own, method="HEAD"), head_only=True).status == 200
    assert exchange(relay.url, post("/olla/ollama/api/push", body, key)).status == 200


def test_a_list_is_read_anew_when_what_stands_in_it_was_changed(tmp_path: Path) -> None:
    with gateway(tmp_path, [Fake("one", "ollama", ("a:1b", "b:1b"))]) as server:
        key = f"Authorization: Bearer {server.key}"

        def tags() -> list[str]:
            answer = exchange(server.url, get("/olla/ollama/api/tags", key))
            return [model["name"] for model in json.loads(answer.body)["models"]]

        assert tags() == ["a:1b", "b:1b"]
        gone = post("/olla/ollama/api/delete", b'{"model": "a:1b"}', key).replace(b"POST", b"DELETE", 1)
        assert exchange(server.url, gone).status == 200
        assert tags() == ["b:1b"]
        assert exchange(server.url, post("/olla/ollama/api/pull", b'{"model": "c:1b"}', key)).status == 200
        assert tags() == ["b:1b", "c:1b"]


def test_every_line_of_a_list_of_addresses_is_read(tmp_path: Path) -> None:
    more = {**OPEN, "trusted_proxies": ["127.0.0.0/8"]}
    env = {"ATRIUM_LIMITS__PER_IP_PER_MINUTE": "60", "ATRIUM_LIMITS__BURST": "2"}
    with gateway(tmp_path, [Fake("one")], more=more, env=env) as server:
        for spoofed in ("8.8.8.1", "8.8.8.2", "8.8.8.3"):
            lines = (f"X-Forwarded-For: {spoofed}", "X-Forwarded-For: 4.4.4.4")
            answers = [exchange(server.url, get(path, *lines)) for path in ("/olla/openai/echo", "/olla/models")]
        assert [answer.status for answer in answers] == [429, 429]
        told = json.loads(
            exchange(server.url, get("/olla/openai/echo", "X-Forwarded-For: 1.1.1.1", "Via: 1.0 a", "Via: 1.0 b")).body
        )
        assert dict(told["headers"])["x-forwarded-for"] == "1.1.1.1, 127.0.0.1"
        assert dict(told["headers"])["via"] == "1.0 a, 1.0 b, 1.1 atrium"


def test_who_is_not_trusted_cannot_make_up_an_address(relay: RunningServer, key: str) -> None:
    more = ("X-Forwarded-For: 6.6.6.6", "X-Real-IP: 6.6.6.6", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil")
    told = dict(json.loads(exchange(relay.url, get("/olla/openai/echo", key, *more)).body)["headers"])
    assert (told["x-forwarded-for"], told["x-real-ip"]) == ("127.0.0.1", "127.0.0.1")
    assert (told["x-forwarded-proto"], told["x-forwarded-host"]) == ("http", "localhost")


def test_a_refused_connection_is_a_failure_in_the_figures_and_who_left_is_none(tmp_path: Path) -> None:
    fakes = [
        Fake("first", "openai", ("m1",), {"check_interval": "60s"}),
        Fake("second", "openai", ("m1",), {"priority": 1}),
    ]
    with gateway(tmp_path, fakes, more=OPEN) as server, server.client() as client:
        fakes[0].kill()
        assert exchange(server.url, post(CHAT, HELLO)).header("x-olla-endpoint") == "second"
        with connect(server.url) as line:
            line.sendall(post(CHAT, HELLO, "X-Fake: hang"))
            fakes[1].when(in_flight=1)
        fakes[1].when(in_flight=0)
        rows = {row["name"]: row for row in client.get("/internal/status").json()["endpoints"]}
        assert (rows["first"]["success_rate"], rows["first"]["max_latency_ms"]) == ("0.0%", 0)
        assert (rows["second"]["success_rate"], rows["second"]["requests"]) == ("100.0%", 2)
        assert client.get("/internal/status").json()["system"]["total_requests"] == 2
        events = (tmp_path / "server.log").read_text()
        assert re.search(r'"endpoint.changed".*"first".*"offline"', events)
        fakes[0].start()


def test_a_model_whose_endpoints_are_all_down_is_missed_and_an_unknown_one_is_not(tmp_path: Path) -> None:
    alone = Fake("alone", "openai", ("M1",), {"check_interval": "60s"})
    with gateway(tmp_path, [alone], more=OPEN) as server, server.client() as client:
        assert exchange(server.url, post(CHAT, HELLO)).status == 200
        assert exchange(server.url, post(CHAT, b'{"model": "M1"}')).status == 200
        alone.kill()
        told = [exchange(server.url, post(CHAT, HELLO)).status for _ in range(3)]
        assert told == [502, 503, 503]
        assert exchange(server.url, post(CHAT, b'{"model": "none"}')).status == 503
        (row,) = client.get("/internal/stats/models").json()["models"]
        assert (row["name"], row["routing_hits"], row["routing_misses"], row["routing_fallbacks"]) == ("M1", 2, 2, 0)
        alone.start()


def test_a_local_model_is_never_asked_of_somebody_else(tmp_path: Path) -> None:
    env = {"ATRIUM_MODELS__ALLOW_FAKE": "true", "ATRIUM_MODELS__DEFAULTS__CHAT": "mine"}
    with gateway(tmp_path, [Fake("one")], more={**OPEN, "routing": "optimistic"}, env=env) as server:
        server.install("fake:mine")
        talk = b'"messages": [{"role": "user", "content": "hello"}], "max_tokens": 3}'
        assert exchange(server.url, post(CHAT, b'{"model": "mine", ' + talk)).header("x-olla-endpoint") == "local"
        stranger = exchange(server.url, post(CHAT, b'{"model": "unheard-of", ' + talk))
        assert (stranger.header("x-olla-endpoint"), stranger.header("x-olla-routing-decision")) == ("one", "fallback")
        unnamed = exchange(server.url, post("/v1/chat/completions", b"{" + talk))
        assert json.loads(unnamed.body)["model"] == "mine"


def test_a_pinned_name_that_its_endpoint_has_not_is_unknown(relay: RunningServer, key: str) -> None:
    answer = exchange(relay.url, post(CHAT, b'{"model": "alpha/phi3:mini"}', key))
    assert (answer.status, code_of(answer.body)) == (404, "MODEL_NOT_FOUND")
    assert exchange(relay.url, post(CHAT, b'{"model": "beta/phi3:mini"}', key)).header("x-olla-model") == "phi3:mini"


@pytest.mark.parametrize("query", ["api_key=1", "api%5Fkey=1", "x=%6Collms_0123456789abcdef_1", "a=b&key=1"])
def test_a_key_in_an_address_is_refused_and_goes_no_further(relay: RunningServer, key: str, query: str) -> None:
    answer = exchange(relay.url, get(f"/olla/openai/echo?{query}", key))
    assert (answer.status, code_of(answer.body)) == (401, "INVALID_API_KEY")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("endpoints: [{url: 'h:1'}]", "http://host:port"),
        ("endpoints: [{url: 'http://h:1', type: olama}]", "Did you mean 'ollama'?"),
        ("endpoints: [{url: 'http://h:1', priority: -5}]", "endpoints.priority"),
        ("endpoints: [{url: 'http://h:1'}, {url: 'http://h:1'}]", "Two endpoints are named 'h:1'"),
        ("endpoints: [{url: 'http://h:1', nmae: x}]", "Did you mean 'name'?"),
        ("endpoints: [{url: 'http://h:1', api_key: '${NOT_SET_ANYWHERE}'}]", "NOT_SET_ANYWHERE"),
        ("endpoints: [{url: 'http://h:1', model_url: 'http://i:1/models'}]", "model_url leads elsewhere"),
        ("endpoints: [{url: 'http://h:1', health_check_url: '/x y'}]", "health_check_url has what no path has"),
        ("endpoints: [{url: 'http://h:1', health_check_url: 'ftp://h/x'}]", "'ftp://h/x' is no address"),
        ("limits: {max_header: 100}", "limits.max_header"),
        ("trusted_proxies: [here]", "trusted_proxies"),
    ],
)
def test_a_configuration_that_cannot_be_meant_is_refused_by_name(tmp_path: Path, text: str, named: str) -> None:
    config = tmp_path / "wrong.yaml"
    config.write_text(text)
    told = command(tmp_path / "data", "config", "check", "--config", str(config))
    assert told.returncode == 1
    assert named in " ".join(told.stderr.split())
