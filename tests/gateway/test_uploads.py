"""Bodies that pass through while they come, and answers that come before them. Contract `olla.md`, §§ 6, 9, 11.2."""

from __future__ import annotations

import hashlib
import json
import socket
import struct
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.gateway.fakes import Fake, gateway
from tests.gateway.test_failure import soon
from tests.gateway.wire import connect, exchange, get, post, read_answer
from tests.running import RunningServer

MB = 1024 * 1024
BLOB = "/olla/ollama/api/blobs/sha256:0"
FILES = "/olla/openai/v1/files/raw"
LIMITS = {"max_body": "48MB"}
HASTY = {"limits": {**LIMITS, "body_timeout": "2s"}, "proxy": {"header_timeout": "2s", "idle_timeout": "2s"}}


@pytest.fixture(scope="module")
def store() -> Fake:
    return Fake("store", "ollama", ("m1",), {"check_timeout": "20s"})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, store: Fake) -> Generator[RunningServer]:
    with gateway(tmp_path_factory.mktemp("uploads"), [store], more={"limits": LIMITS}) as server:
        yield server


@contextmanager
def hasty(folder: Path) -> Generator[tuple[RunningServer, Fake]]:
    """With little patience, which a busy machine must not need."""
    store = Fake("store", "ollama", ("m1",), {"check_timeout": "20s"})
    with gateway(folder, [store], more=HASTY) as server:
        yield server, store


def head_of(path: str, key: str, *lines: str) -> bytes:
    """Ollama's own clients say JSON of their blobs."""
    told = [f"POST {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {key}", *lines]
    return "\r\n".join(told).encode() + b"\r\n\r\n"


def memory(server: RunningServer) -> int:
    with server.client() as client:
        return client.get("/internal/process").json()["memory"]["rss_bytes"]


def test_a_blob_passes_while_it_comes_with_its_length(server: RunningServer, store: Fake) -> None:
    data = bytes(range(256)) * (32 * MB // 256)
    before, received = memory(server), store.counts()["received"]
    with connect(server.url) as line:
        line.sendall(head_of(BLOB, server.key, "Content-Type: application/json", f"Content-Length: {len(data)}"))
        line.sendall(data[: 8 * MB])
        store.when(received=received + 4 * MB)
        line.sendall(data[8 * MB :])
        answer = read_answer(line)
        told = json.loads(answer.body)
        assert (answer.status, answer.whole, answer.header("x-olla-endpoint")) == (200, True, "store")
        assert (told["sha256"], told["length"]) == (hashlib.sha256(data).hexdigest(), len(data))
        assert dict(told["headers"])["content-length"] == str(len(data))
        line.sendall(get("/olla/openai/echo", f"Authorization: Bearer {server.key}"))
        assert read_answer(line).status == 200
    assert memory(server) - before < 12 * MB


def test_a_body_of_unknown_length_passes_in_chunks_and_in_turn(server: RunningServer) -> None:
    chunked = head_of(FILES.replace("v1/files/raw", "api/blobs/x"), server.key, "Transfer-Encoding: chunked")
    body = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in (b"one", b"two" * 100_000, b"three")) + b"0\r\n\r\n"
    slow = post(
        "/olla/openai/v1/chat/completions",
        b'{"model":"m1"}',
        f"Authorization: Bearer {server.key}",
        "X-Fake: slow=300ms",
    )
    with connect(server.url) as line:
        line.sendall(slow + chunked + body + get("/internal/health"))
        answers = [read_answer(Slowly(line)) for _ in range(3)]  # type: ignore[arg-type]
    told = json.loads(answers[1].body)
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert told["length"] == 3 + 300_000 + 5
    assert dict(told["headers"])["transfer-encoding"] == "chunked"


class Slowly:
    """Read byte by byte, so that nothing of the next answer is taken."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line

    def makefile(self, _: str) -> object:
        return self._line.makefile("rb", buffering=0)


def test_an_endpoint_that_does_not_read_makes_the_client_wait_and_costs_no_memory(tmp_path: Path) -> None:
    with hasty(tmp_path) as (server, store), connect(server.url) as line:
        before = memory(server)
        line.settimeout(0.5)
        line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        line.sendall(head_of(BLOB, server.key, "X-Fake: deaf", f"Content-Length: {40 * MB}"))
        with pytest.raises(TimeoutError):
            send_most(line)
        assert memory(server) - before < 8 * MB
        line.settimeout(20)
        answer = read_answer(line)
        assert (answer.status, json.loads(answer.body)["error"]["code"]) == (504, "UPSTREAM_TIMEOUT")
        hear(store)


def send_most(line: socket.socket) -> None:
    """Most of the body. Raises TimeoutError when nobody takes it."""
    for _ in range(38):
        line.sendall(b"x" * MB)


def hear(store: Fake) -> None:
    httpx2.get(f"http://127.0.0.1:{store.port}/hear", trust_env=False)


def test_a_client_that_leaves_while_it_waits_frees_the_endpoint(tmp_path: Path) -> None:
    store = Fake("store", "ollama", ("m1",))
    with gateway(tmp_path, [store]) as server:
        with connect(server.url) as line:
            line.settimeout(0.5)
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            line.sendall(head_of(BLOB, server.key, "X-Fake: deaf", f"Content-Length: {40 * MB}"))
            with pytest.raises(TimeoutError):
                send_most(line)
        with server.client() as client:
            busy = lambda: client.get("/internal/status").json()["system"]["active_connections"]  # noqa: E731
            assert soon(lambda: busy() == 0)
        hear(store)


@pytest.mark.parametrize("path", [BLOB, "/olla/openai/v1/chat/completions"])
def test_an_answer_that_comes_before_its_request_is_whole_is_passed_on(server: RunningServer, path: str) -> None:
    data = b'{"model": "m1", "x": "' + b"y" * 20 * MB + b'"}'
    with connect(server.url) as line:
        line.sendall(
            head_of(path, server.key, "X-Fake: early", "Content-Type: application/json", f"Content-Length: {len(data)}")
        )
        line.sendall(data)
        answer = read_answer(line)
    assert (answer.status, answer.body, answer.header("x-olla-endpoint")) == (413, b"too large", "store")
    key = f"Authorization: Bearer {server.key}"
    assert exchange(server.url, post("/olla/openai/v1/chat/completions", b'{"model":"m1"}', key)).status == 200


@pytest.mark.parametrize("path", [BLOB, "/olla/openai/v1/chat/completions", "/v1/embeddings"])
def test_a_body_that_turns_out_too_long_is_refused_and_read_by_who_reads_after_writing(
    server: RunningServer, store: Fake, path: str
) -> None:
    with connect(server.url) as line:
        line.sendall(head_of(path, server.key, "Content-Type: application/json", "Transfer-Encoding: chunked"))
        for _ in range(60):
            line.sendall(b"%x\r\n%b\r\n" % (MB, b"x" * MB))
        line.sendall(b"0\r\n\r\n")
        answer = read_answer(line)
    assert answer.status == 413
    assert answer.header("connection") == "close"
    store.when(in_flight=0)


def test_a_length_over_the_limit_is_refused_and_read_by_who_reads_after_writing(server: RunningServer) -> None:
    for path in (BLOB, "/olla/openai/v1/chat/completions", "/v1/embeddings", "/api/admin/users"):
        with connect(server.url) as line:
            line.sendall(head_of(path, server.key, f"Content-Length: {50 * MB}"))
            for _ in range(50):
                line.sendall(b"x" * MB)
            assert read_answer(line).status == 413


def test_a_client_that_stops_sending_is_told(tmp_path: Path) -> None:
    with hasty(tmp_path) as (server, store), connect(server.url) as line:
        line.sendall(head_of(BLOB, server.key, f"Content-Length: {MB}") + b"x" * 1000)
        answer = read_answer(line)
        assert (answer.status, json.loads(answer.body)["error"]["code"]) == (408, "REQUEST_TIMEOUT")
        store.when(in_flight=0)
