"""Endpoints that fail, and clients that do. Contract `olla.md`, sections 6, 9.5 and 14."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.gateway.fakes import Fake, free_port, gateway
from tests.gateway.wire import Raw, connect, exchange, get, post, read_answer
from tests.running import RunningServer

CHAT = "/olla/openai/v1/chat/completions"
HELLO = b'{"model": "m1", "messages": []}'
STREAM = b'{"model": "m1", "stream": true}'


@pytest.fixture
def key(relay: RunningServer) -> str:
    return f"Authorization: Bearer {relay.key}"


def soon(look: Callable[[], bool], patience: float = 5.0) -> bool:
    """Whether it comes true in time."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if look():
            return True
        threading.Event().wait(0.02)
    return False


def code_of(answer: Raw) -> str:
    return json.loads(answer.body)["error"]["code"]


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("reset", 502, "UPSTREAM_DISCONNECTED"),
        ("close", 502, "UPSTREAM_DISCONNECTED"),
        ("garbage", 502, "UPSTREAM_BAD_RESPONSE"),
        ("big-head", 502, "UPSTREAM_BAD_RESPONSE"),
        ("hang", 504, "UPSTREAM_TIMEOUT"),
        ("hang-head", 504, "UPSTREAM_TIMEOUT"),
        ("drip", 504, "UPSTREAM_TIMEOUT"),
    ],
)
def test_a_failure_before_the_head_is_told(relay: RunningServer, key: str, fault: str, status: int, code: str) -> None:
    answer = exchange(relay.url, post("/olla/lmstudio/v1/chat/completions", HELLO, key, f"X-Fake: {fault}"))
    assert (answer.status, code_of(answer)) == (status, code)
    again = exchange(relay.url, post("/olla/lmstudio/v1/chat/completions", HELLO, key))
    assert again.status == 200


@pytest.mark.parametrize(
    ("fault", "body"), [("half", b"data: one\n\n"), ("short", b"only this"), ("hang-body", b"data: one\n\n")]
)
def test_a_broken_answer_is_a_broken_transfer(relay: RunningServer, key: str, fault: str, body: bytes) -> None:
    answer = exchange(relay.url, post(CHAT, STREAM, key, f"X-Fake: {fault}"))
    assert answer.status == 200
    assert answer.body.startswith(body)
    assert not answer.whole
    assert answer.trailers == b""


@pytest.mark.parametrize("status", [400, 404, 422, 429, 500, 501, 503])
def test_an_answered_error_is_passed_on_unchanged(relay: RunningServer, key: str, status: int) -> None:
    answer = exchange(relay.url, post("/olla/lmstudio/v1/chat/completions", HELLO, key, f"X-Fake: status={status}"))
    assert answer.status == status
    assert json.loads(answer.body)["error"]["code"] == "fake"
    exchange(relay.url, post("/olla/lmstudio/v1/chat/completions", HELLO, key))


def test_a_redirect_is_passed_on_and_never_followed(relay: RunningServer, key: str) -> None:
    answer = exchange(relay.url, post(CHAT, HELLO, key, "X-Fake: redirect"))
    assert (answer.status, answer.header("location")) == (302, "http://127.0.0.1:1/elsewhere")


def test_more_than_was_announced_is_nobodys_answer(relay: RunningServer, key: str) -> None:
    answer = exchange(relay.url, post(CHAT, HELLO, key, "X-Fake: long"))
    assert (answer.body, answer.whole) == (b"four", True)
    for _ in range(3):
        assert b"stolen" not in exchange(relay.url, post(CHAT, HELLO, key)).body


@pytest.mark.parametrize("manner", ["interim", "trailers", "old", "silent-close"])
def test_odd_manners_are_borne(relay: RunningServer, fakes: list[Fake], key: str, manner: str) -> None:
    for body in (HELLO, STREAM):
        before = fakes[0].counts()["hung_up"]
        answer = exchange(relay.url, post(CHAT, body, key, f"X-Fake: {manner}"))
        if manner == "silent-close":
            # Until then a request might be written on a connection that is being closed, and may not be sent again.
            fakes[0].when(hung_up=before + 1)
        assert (answer.status, answer.whole) == (200, True)
        assert b"word4" in answer.body


def test_a_get_goes_to_the_next_candidate_and_a_post_does_not(tmp_path: Path) -> None:
    fakes = [Fake("first", "openai", ("m1",)), Fake("second", "openai", ("m1",), {"priority": 1})]
    with gateway(tmp_path, fakes) as server:
        key = f"Authorization: Bearer {server.key}"
        assert exchange(server.url, post(CHAT, HELLO, key, "X-Fake: reset")).status == 502
        assert fakes[1].counts()["asked"] == 0
        assert exchange(server.url, get("/olla/openai/echo", key, "X-Fake: reset")).status == 502
        fakes[0].kill()
        answer = exchange(server.url, post(CHAT, HELLO, key))
        assert (answer.status, answer.header("x-olla-endpoint")) == (200, "second")
        status = server.client().get("/internal/status/endpoints").json()["endpoints"]
        assert {one["name"]: one["status"] for one in status} == {"first": "offline", "second": "healthy"}
        fakes[0].start()
        assert soon(lambda: exchange(server.url, post(CHAT, HELLO, key)).header("x-olla-endpoint") == "first")


def test_who_refuses_everywhere_is_unreachable_then_unavailable(tmp_path: Path) -> None:
    lone = Fake("lone", "openai", ("m1",), {"check_interval": "60s"})
    with gateway(tmp_path, [lone]) as server:
        key = f"Authorization: Bearer {server.key}"
        lone.kill()
        assert code_of(exchange(server.url, post(CHAT, HELLO, key))) == "UPSTREAM_UNREACHABLE"
        answer = exchange(server.url, post(CHAT, HELLO, key))
        assert (answer.status, code_of(answer)) == (503, "NO_ENDPOINTS")
        assert int(answer.header("retry-after") or 0) >= 1
        lone.start()


def test_a_model_on_a_dead_endpoint_is_unavailable_and_not_unknown(tmp_path: Path) -> None:
    fakes = [Fake("one", "openai", ("m1",)), Fake("two", "openai", ("m2",))]
    with gateway(tmp_path, fakes) as server:
        key = f"Authorization: Bearer {server.key}"
        fakes[1].kill()
        assert soon(lambda: code_of(exchange(server.url, post(CHAT, b'{"model":"m2"}', key))) == "MODEL_UNAVAILABLE")
        assert code_of(exchange(server.url, post(CHAT, b'{"model":"m3"}', key))) == "MODEL_NOT_FOUND"
        fakes[1].start()


def test_an_endpoint_that_keeps_failing_is_passed_over(tmp_path: Path) -> None:
    fakes = [Fake("bad", "openai", ("m1",)), Fake("good", "openai", ("m1",), {"priority": 1})]
    with gateway(tmp_path, fakes, more={"balancer": "priority"}) as server:
        key = f"Authorization: Bearer {server.key}"
        for _ in range(5):
            assert exchange(server.url, post(CHAT, HELLO, key, "X-Fake: status=500")).header("x-olla-endpoint") == "bad"
        assert exchange(server.url, post(CHAT, HELLO, key)).header("x-olla-endpoint") == "good"
        shown = server.client().get("/internal/status/endpoints").json()["endpoints"]
        assert {one["name"]: one["circuit"] for one in shown} == {"bad": "open", "good": "closed"}


def test_a_client_that_leaves_frees_the_endpoint(relay: RunningServer, fakes: list[Fake], key: str) -> None:
    alpha = fakes[0]
    for fault in ("hang", "pace=50ms, chunks=1000", "endless"):
        with connect(relay.url) as line:
            line.sendall(post(CHAT, STREAM, key, f"X-Fake: {fault}"))
            assert soon(lambda: alpha.counts()["in_flight"] == 1), fault
        assert soon(lambda: alpha.counts()["in_flight"] == 0, 2.0), fault
    shown = relay.client().get("/internal/status/endpoints").json()["endpoints"]
    assert {one["active_connections"] for one in shown} == {0}


def test_a_slow_reader_slows_the_endpoint_and_costs_no_memory(relay: RunningServer, key: str) -> None:
    with relay.client() as client:
        before = client.get("/internal/process").json()["memory"]["rss_bytes"]
    with connect(relay.url) as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.sendall(post(CHAT, STREAM, key, "X-Fake: endless"))
        assert line.recv(1000).startswith(b"HTTP/1.1 200")
        with relay.client() as client:
            for _ in range(5):
                threading.Event().wait(0.1)
                assert client.get("/internal/health").status_code == 200
            after = client.get("/internal/process").json()["memory"]["rss_bytes"]
    assert after - before < 8 * 1024 * 1024


def test_a_client_that_resets_leaves_nothing_behind(relay: RunningServer, key: str) -> None:
    for _ in range(20):
        line = connect(relay.url)
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        line.sendall(post(CHAT, STREAM, key, "X-Fake: pace=10ms, chunks=100"))
        line.recv(10)
        line.close()
    with relay.client() as client:
        ends = lambda: {e["active_connections"] for e in client.get("/internal/status/endpoints").json()["endpoints"]}  # noqa: E731
        assert soon(lambda: ends() == {0})


def test_more_than_an_endpoint_may_have_wait_for_their_turn(tmp_path: Path) -> None:
    narrow = Fake("narrow", "openai", ("m1",), {"max_concurrent": 2})
    with gateway(tmp_path, [narrow]) as server, ThreadPoolExecutor(8) as pool:
        key = f"Authorization: Bearer {server.key}"
        asking = [pool.submit(exchange, server.url, post(CHAT, HELLO, key, "X-Fake: slow=100ms")) for _ in range(8)]
        assert soon(lambda: narrow.counts()["in_flight"] == 2)
        assert [one.result().status for one in asking] == [200] * 8


def test_the_line_for_a_busy_endpoint_has_an_end_in_number_and_in_time(tmp_path: Path) -> None:
    narrow = Fake("narrow", "openai", ("m1",), {"max_concurrent": 1})
    more = {"proxy": {"queue": 1, "queue_timeout": "300ms"}}
    with gateway(tmp_path, [narrow], more=more) as server, ThreadPoolExecutor(3) as pool:
        key = f"Authorization: Bearer {server.key}"
        first = pool.submit(exchange, server.url, post(CHAT, HELLO, key, "X-Fake: slow=1500ms"))
        narrow.when(in_flight=1)
        refused = [one.result() for one in [pool.submit(exchange, server.url, post(CHAT, HELLO, key)) for _ in "12"]]
        assert [one.status for one in refused] == [503, 503]
        told = b"".join(one.body for one in refused)
        assert b"wait for 'narrow' already" in told
        assert b"'narrow' was busy for" in told
        assert first.result().status == 200


def test_a_health_check_that_fails_and_recovers_is_seen(tmp_path: Path) -> None:
    dead = {
        "name": "later",
        "url": f"http://127.0.0.1:{(port := free_port())}",
        "type": "openai",
        "check_interval": "500ms",
    }
    with gateway(tmp_path, [], dead=[dead]) as server, server.client() as client:
        assert client.get("/internal/status/endpoints").json()["endpoints"][0]["status"] == "offline"
        late = Fake("later", "openai", ("m9",), port=port)
        late.start()
        try:
            names = lambda: [m["id"] for m in client.get("/olla/models").json()["data"]]  # noqa: E731
            assert soon(lambda: names() == ["m9"])
        finally:
            late.kill()


def test_who_leaves_the_line_loses_nobody_their_turn(tmp_path: Path) -> None:
    narrow = Fake("narrow", "openai", ("m1",), {"max_concurrent": 1})
    with gateway(tmp_path, [narrow]) as server, ThreadPoolExecutor(4) as pool:
        key = f"Authorization: Bearer {server.key}"
        slow = post(CHAT, HELLO, key, "X-Fake: slow=400ms")
        first = pool.submit(exchange, server.url, slow)
        assert soon(lambda: narrow.counts()["in_flight"] == 1)
        leaving = [connect(server.url) for _ in range(5)]
        for line in leaving:
            line.sendall(slow)
        waiting = [pool.submit(exchange, server.url, post(CHAT, HELLO, key)) for _ in range(3)]
        for line in leaving:
            line.close()
        assert [one.result().status for one in [first, *waiting]] == [200] * 4
        assert narrow.counts()["asked"] == 4


def test_a_refusal_leaves_the_connection_usable(relay: RunningServer, key: str) -> None:
    with connect(relay.url) as line:
        for data, status in [
            (post(CHAT, HELLO), 401),
            (get("/olla/openai/../x", key), 400),
            (post(CHAT, HELLO, key), 200),
        ]:
            line.sendall(data)
            assert read_answer(line).status == status


def test_a_stop_lets_a_stream_end_and_then_goes_at_once(tmp_path: Path) -> None:
    with gateway(tmp_path, [Fake("one")]) as server:
        key = f"Authorization: Bearer {server.key}"
        with connect(server.url) as line:
            line.sendall(post(CHAT, STREAM, key, "X-Fake: pace=100ms, chunks=10"))
            assert line.recv(10) == b"HTTP/1.1 2"
            server.process.terminate()
            rest = b""
            while data := line.recv(65536):
                rest += data
        assert b"[DONE]" in rest
        assert server.process.wait(5) == 0
