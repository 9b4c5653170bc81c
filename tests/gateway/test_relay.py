"""What passes the gateway, byte for byte. Contract `olla.md`, sections 3, 4.1 and 9."""

from __future__ import annotations

import gzip
import json
import re
import time

import pytest

from tests.gateway.fakes import Fake
from tests.gateway.wire import Raw, connect, exchange, get, post, read_answer
from tests.running import RunningServer

CHAT = "/olla/openai/v1/chat/completions"
HELLO = b'{"model": "m1", "messages": []}'
UNKNOWN = b'{"model": "x", "messages": [{"role": "user", "content": "hi"}]}'


@pytest.fixture
def key(relay: RunningServer) -> str:
    return f"Authorization: Bearer {relay.key}"


def echo(relay: RunningServer, data: bytes) -> dict[str, object]:
    answer = exchange(relay.url, data)
    assert answer.status == 200, answer
    return json.loads(answer.body)


def sent_headers(told: dict[str, object]) -> dict[str, str]:
    return dict(told["headers"])  # type: ignore[arg-type]


def test_an_answer_carries_who_gave_it_and_ends_with_its_time(relay: RunningServer, key: str) -> None:
    answer = exchange(relay.url, post(CHAT, HELLO, key, "X-Request-ID: my-id"))
    assert answer.status == 200
    assert answer.whole
    assert answer.header("x-olla-endpoint") == "alpha"
    assert answer.header("x-olla-backend-type") == "openai"
    assert answer.header("x-olla-model") == "m1"
    assert answer.header("x-olla-request-id") == "my-id"
    assert answer.header("trailer") == "X-Olla-Response-Time"
    assert re.fullmatch(rb"X-Olla-Response-Time: \d+ms\r\n", answer.trailers)
    assert answer.header("via") == "1.1 atrium"
    assert json.loads(answer.body)["choices"][0]["message"]["content"].startswith("word0")


def test_what_an_endpoint_must_not_say_is_taken_out(relay: RunningServer, key: str) -> None:
    answer = exchange(relay.url, post(CHAT, HELLO, key))
    assert answer.header("set-cookie") is None
    assert answer.header("x-hop") is None
    assert answer.all("x-olla-endpoint") == ["alpha"]
    assert answer.all("access-control-allow-origin") == ["*"]
    assert answer.header("x-number") is not None
    assert answer.header("content-length") is None


def test_the_callers_key_never_reaches_an_endpoint(relay: RunningServer, key: str) -> None:
    smuggled = f"X-Note: see {relay.key}"
    more = ("X-Api-Key: other", "Cookie: a=b", "Connection: keep-alive, X-Private", "X-Private: 1", smuggled)
    told = echo(relay, get("/olla/openai/echo", key, *more, "X-Mine: 1", "X-Forwarded-For: 6.6.6.6"))
    headers = sent_headers(told)
    assert relay.key.encode() not in json.dumps(told).encode()
    assert headers["authorization"] == "Bearer sk-endpoint"
    assert headers["x-site"] == "here"
    assert headers["x-mine"] == "1"
    assert headers["x-forwarded-for"] == "127.0.0.1"
    assert headers["x-forwarded-host"] == "localhost"
    assert headers["via"] == "1.1 atrium"
    for gone in ("x-api-key", "cookie", "x-private", "x-note", "connection"):
        assert gone not in headers
    assert "accept-encoding" not in headers
    assert "user-agent" not in headers


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("/echo?b=2&a=%20+&c=", "/echo?b=2&a=%20+&c="),
        ("/a%2Fb//c/?x", "/a%2Fb//c/?x"),
        ("/v1/x%3Fy", "/v1/x%3Fy"),
    ],
)
def test_a_path_goes_on_byte_for_byte(relay: RunningServer, key: str, asked: str, sent: str) -> None:
    assert echo(relay, get(f"/olla/openai{asked}", key, method="PUT"))["url"] == sent


@pytest.mark.parametrize("path", ["/../secret", "/a/./b", "/%2e%2e/x", "/a%2f..%2fb", "/x%00y", "/.."])
def test_dot_segments_and_nul_are_refused(relay: RunningServer, key: str, path: str) -> None:
    answer = exchange(relay.url, get(f"/olla/openai{path}", key))
    assert answer.status == 400
    assert json.loads(answer.body)["error"]["code"] == "INVALID_PATH"


def test_an_alias_changes_the_models_name_and_nothing_else(relay: RunningServer, key: str) -> None:
    body = b'{ "x": "fast",  "model" :"fast", "n":1e2, "u":"\\u00e9 \xc3\xa9"}'
    answer = exchange(relay.url, post("/olla/openai/echo", body, key))
    assert json.loads(answer.body)["body"] == body.replace(b':"fast"', b':"m1"').decode()
    assert answer.header("x-olla-model") == "m1"
    assert answer.header("x-olla-routing-strategy") == "alias"


def test_an_alias_of_nothing_is_an_unknown_model(relay: RunningServer, key: str) -> None:
    answer = exchange(relay.url, post(CHAT, b'{"model": "nothing"}', key))
    assert answer.status == 404
    assert json.loads(answer.body)["error"]["code"] == "MODEL_NOT_FOUND"
    assert answer.header("x-olla-routing-decision") == "rejected"


def test_the_model_is_found_behind_megabytes(relay: RunningServer, key: str) -> None:
    body = b'{"image": "' + b"A" * 900_000 + b'", "model": "org/m2"}'
    answer = exchange(relay.url, post(CHAT, body, key))
    assert (answer.status, answer.header("x-olla-model")) == (200, "org/m2")


def test_the_model_is_found_in_a_form(relay: RunningServer, key: str) -> None:
    body = b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\nm1\r\n--B--\r\n'
    answer = exchange(relay.url, post("/olla/openai/echo", body, key, kind="multipart/form-data; boundary=B"))
    assert json.loads(answer.body)["body"] == body.decode()
    assert answer.header("x-olla-model") == "m1"


@pytest.mark.parametrize(
    "body",
    [b"{", b'{"model": "m1"', b'{"model": "m1", "model": "m2"}', b'{"model": "m1", "\\u006dodel": "m2"}', b"\xff\xfe"],
)
def test_a_body_that_could_be_read_in_two_ways_is_refused(relay: RunningServer, key: str, body: bytes) -> None:
    answer = exchange(relay.url, post(CHAT, body, key))
    assert answer.status == 400
    assert json.loads(answer.body)["error"]["code"] == "INVALID_JSON"


def test_a_packed_body_whose_model_cannot_be_seen_is_refused_as_such(relay: RunningServer, key: str) -> None:
    answer = exchange(relay.url, post(CHAT, gzip.compress(HELLO), key, "Content-Encoding: gzip"))
    error = json.loads(answer.body)["error"]
    assert (answer.status, error["code"]) == (400, "INVALID_JSON")
    assert "packed" in error["message"]


def test_a_stream_passes_as_it_comes(relay: RunningServer, key: str) -> None:
    body = b'{"model": "m1", "stream": true}'
    with connect(relay.url) as line:
        line.sendall(post(CHAT, body, key, "X-Fake: pace=300ms, chunks=4"))
        reader = line.makefile("rb")
        moments: list[float] = []
        while (text := reader.readline()) != b"0\r\n":
            if text.startswith(b"data: "):
                moments.append(time.monotonic())
    assert len(moments) == 5
    assert moments[3] - moments[0] > 0.5, "the pieces came all at once"


def test_a_chunked_upload_gets_a_length(relay: RunningServer, key: str) -> None:
    head = f"POST /olla/openai/echo HTTP/1.1\r\nHost: localhost\r\n{key}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    told = echo(relay, head + b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")
    assert told["body"] == "hello world"
    assert sent_headers(told)["content-length"] == "11"
    assert "transfer-encoding" not in sent_headers(told)


def test_a_client_that_asks_first_is_told_to_go_on(relay: RunningServer, key: str) -> None:
    data = post("/olla/openai/echo", b"later", key, "Expect: 100-continue", kind="text/plain")
    with connect(relay.url) as line:
        line.sendall(data[:-5])
        assert line.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        line.sendall(b"later")
        told = json.loads(read_answer(line).body)
    assert told["body"] == "later"
    assert "expect" not in sent_headers(told)


def test_head_gets_the_length_and_no_body(relay: RunningServer, key: str) -> None:
    answer = exchange(relay.url, get("/olla/openai/echo", key, method="HEAD"), head_only=True)
    assert answer.status == 200
    assert int(answer.header("content-length") or 0) > 10
    assert answer.header("trailer") is None


def test_an_old_client_gets_plain_bytes_and_a_closed_connection(relay: RunningServer, key: str) -> None:
    data = post(CHAT, b'{"model": "m1", "stream": true}', key).replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    answer = exchange(relay.url, data)
    assert answer.header("transfer-encoding") is None
    assert answer.header("connection") == "close"
    assert answer.body.endswith(b"data: [DONE]\n\n")


def test_requests_in_a_row_are_answered_in_their_order_across_both_lanes(relay: RunningServer, key: str) -> None:
    slow = post(CHAT, HELLO, key, "X-Fake: slow=200ms", "X-Request-ID: one")
    data = [slow, get("/internal/health", "X-Request-ID: two"), post(CHAT, HELLO, key, "X-Request-ID: three")]
    data += [get("/olla/models", key, "X-Request-ID: four"), get("/olla/nobody/x", key, "X-Request-ID: five")]
    with connect(relay.url) as line:
        line.sendall(b"".join(data))
        answers = [read_one(line) for _ in data]
    assert [answer.header("x-olla-request-id") for answer in answers] == ["one", "two", "three", "four", "five"]
    assert [answer.status for answer in answers] == [200, 200, 200, 200, 404]


def read_one(line: object) -> Raw:
    """Byte by byte, so that nothing of the next answer is taken."""
    return read_answer(Slowly(line))  # type: ignore[arg-type]


class Slowly:
    def __init__(self, line: object) -> None:
        self._line = line

    def makefile(self, _: str) -> object:
        return self._line.makefile("rb", buffering=0)  # type: ignore[attr-defined]


def test_a_request_may_come_byte_by_byte(relay: RunningServer, key: str) -> None:
    with connect(relay.url) as line:
        for byte in post(CHAT, HELLO, key):
            line.sendall(bytes([byte]))
        assert read_answer(line).status == 200


def test_upgrades_are_not_offered(relay: RunningServer, key: str) -> None:
    more = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x", "Sec-WebSocket-Version: 13")
    answer = exchange(relay.url, get("/olla/openai/v1/realtime", key, *more))
    assert answer.status == 501
    assert json.loads(answer.body)["error"]["code"] == "NOT_IMPLEMENTED"


def test_a_key_is_needed_and_an_error_looks_like_one_of_ours(relay: RunningServer) -> None:
    for bad in ((), ("Authorization: Bearer lollms_0123456789abcdef_" + "0" * 48,)):
        answer = exchange(relay.url, post(CHAT, HELLO, *bad))
        assert answer.status == 401
        assert answer.header("www-authenticate") == "Bearer"
        error = json.loads(answer.body)["error"]
        assert set(error) == {"message", "type", "code"}
        assert error["code"] == "INVALID_API_KEY"
        assert answer.header("x-olla-request-id")
        assert re.fullmatch(r"\d+ms", answer.header("x-olla-response-time") or "")
    answer = exchange(relay.url, post(f"{CHAT}?api_key={relay.key}", HELLO))
    assert answer.status == 401


def test_management_is_the_administrators(relay: RunningServer, fakes: list[Fake], key: str) -> None:
    body = b'{"model": "phi3:mini", "source": "phi3:mini", "destination": "x"}'
    assert exchange(relay.url, post("/olla/ollama/api/copy", body, key)).status == 200
    assert exchange(relay.url, post("/olla/ollama/api/show", b'{"name": "phi3:mini"}', key)).status == 200
    with relay.client() as client:
        client.post("/api/admin/users", json={"username": "ann"})
        user = client.post("/api/admin/keys", json={"username": "ann", "alias": "a"}).json()["full_key"]
    own = f"Authorization: Bearer {user}"
    assert exchange(relay.url, post("/olla/ollama/api/copy", body, own)).status == 403
    assert exchange(relay.url, post("/olla/ollama/api/show", body, own)).status == 200
    assert fakes


def test_a_body_over_the_limit_is_refused_at_once(relay: RunningServer, key: str) -> None:
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\n{key}\r\nContent-Length: 99999999\r\n\r\n".encode()
    answer = exchange(relay.url, head)
    assert answer.status == 413
    assert json.loads(answer.body)["error"]["code"] == "BODY_TOO_LARGE"
    assert answer.header("connection") == "close"


@pytest.mark.parametrize(
    "head",
    [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Content-Length: 5\r\nContent-Length: 6",
        "Transfer-Encoding: chunked, identity",
        "Content-Length: +5",
        "Content-Length : 5",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked\r\nHost: elsewhere",
        "Transfer-Encoding: chunked\nX-Note: a line that ends in a bare line feed",
        "Transfer-Encoding: chunked\rX-Note: a bare carriage return",
        "Transfer-Encoding: chunked\r\nX-Note: folded\r\n over two lines",
    ],
)
def test_a_length_that_could_be_read_in_two_ways_is_refused(relay: RunningServer, key: str, head: str) -> None:
    for path in (CHAT, "/v1/embeddings", "/api/admin/users"):
        line = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{key}\r\n{head}\r\n\r\n"
        assert exchange(relay.url, line.encode() + b"5\r\nhello\r\n0\r\n\r\n").status == 400


def test_a_request_names_its_host(relay: RunningServer, key: str) -> None:
    for path in ("/olla/openai/echo", "/v1/models"):
        for version, status in (("1.1", 400), ("1.0", 200)):
            assert exchange(relay.url, f"GET {path} HTTP/{version}\r\n{key}\r\n\r\n".encode()).status == status


def test_an_endpoint_is_never_asked_to_show_what_it_was_sent(relay: RunningServer, key: str) -> None:
    answer = exchange(relay.url, get("/olla/openai/echo", key, method="TRACE"))
    assert answer.status == 405
    assert b"sk-endpoint" not in answer.body


def test_all_spellings_of_a_prefix_reach_the_same_endpoints(relay: RunningServer, key: str) -> None:
    for prefix in ("lmstudio", "lm-studio", "lm_studio", "LMStudio"):
        answer = exchange(relay.url, post(f"/olla/{prefix}/v1/chat/completions", HELLO, key))
        assert (answer.status, answer.header("x-olla-endpoint")) == (200, "gamma")
    assert exchange(relay.url, post("/olla/proxy/v1/chat/completions", HELLO, key)).header("x-olla-endpoint") == "alpha"


def test_the_openai_prefix_reaches_every_kind(relay: RunningServer, key: str) -> None:
    answer = exchange(relay.url, post(CHAT, b'{"model": "LLAMA3"}', key))
    assert (answer.status, answer.header("x-olla-backend-type")) == (200, "ollama")


def test_v1_uses_the_same_balancer_in_its_own_words(relay: RunningServer, key: str) -> None:
    answer = exchange(relay.url, post("/v1/chat/completions", HELLO, key))
    assert (answer.status, answer.header("x-olla-endpoint")) == (200, "alpha")
    unknown = exchange(relay.url, post("/v1/chat/completions", UNKNOWN, key))
    assert json.loads(unknown.body)["error"]["code"] == "model_not_found"
    failed = exchange(relay.url, post("/v1/chat/completions", HELLO, key, "X-Fake: status=500"))
    assert failed.status == 502
    assert "param" in json.loads(failed.body)["error"]
    busy = exchange(relay.url, post("/v1/chat/completions", HELLO, key, "X-Fake: status=429"))
    assert (busy.status, busy.header("retry-after")) == (429, "7")


def test_an_answer_that_is_read_on_its_way_is_asked_for_unpacked(
    relay: RunningServer, fakes: list[Fake], key: str
) -> None:
    for path, passed in ((CHAT, True), ("/v1/chat/completions", False)):
        exchange(relay.url, post(path, HELLO, key, "Accept-Encoding: gzip"))
        assert ("accept-encoding" in dict(fakes[0].last()["headers"])) == passed
    whole = exchange(relay.url, post(CHAT, HELLO, key, "X-Fake: gzip"))
    assert whole.header("content-encoding") == "gzip"
    assert json.loads(gzip.decompress(whole.body))["usage"]["completion_tokens"] == 5
    told = exchange(relay.url, post("/v1/chat/completions", HELLO, key, "X-Fake: gzip, status=400"))
    assert json.loads(told.body)["error"]["message"] == "fake 400"


@pytest.mark.parametrize("stream", [b"", b', "stream": true'])
def test_the_type_is_the_endpoints_whatever_the_body_is(relay: RunningServer, key: str, stream: bytes) -> None:
    for path in (CHAT, "/v1/chat/completions"):
        body = HELLO[:-1] + stream + b"}"
        answer = exchange(relay.url, post(path, body, key, "X-Fake: type=text/html"))
        assert (answer.status, answer.whole, answer.header("content-type")) == (200, True, "text/html")
        assert b"word4" in answer.body


def test_outside_the_gateways_paths_an_answer_tells_who_gave_it_and_has_no_trailer(
    relay: RunningServer, key: str
) -> None:
    answer = exchange(relay.url, post("/v1/chat/completions", HELLO, key, "X-Request-ID: mine"))
    told = [answer.header(f"x-olla-{name}") for name in ("endpoint", "backend-type", "model", "request-id")]
    assert told == ["alpha", "openai", "m1", "mine"]
    assert (answer.header("x-request-id"), answer.header("trailer"), answer.trailers) == ("mine", None, b"")


def test_ollamas_own_paths_use_the_same_balancer(relay: RunningServer, key: str) -> None:
    answer = exchange(relay.url, post("/api/chat", b'{"model": "llama3"}', key))
    assert (answer.status, answer.header("x-olla-endpoint")) == (200, "beta")
    assert json.loads(answer.body.splitlines()[-1])["done"] is True
