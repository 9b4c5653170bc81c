"""A head that a connection has sent before: recognised only where the parser would say the same, and answered alike."""

from __future__ import annotations

import json
import secrets
from contextlib import suppress
from types import SimpleNamespace
from typing import IO, cast

import httptools
import pytest
from hypothesis import given
from hypothesis import settings as trying
from hypothesis import strategies as st

from atrium.decisions.choose_endpoint import Balancing
from atrium.http.asked import Asked, known_place
from atrium.http.by_heart import KnownHead, known_head
from atrium.http.lane import Gateway, Lane
from atrium.relay.directory import Directory
from atrium.relay.pool import PoolBounds
from atrium.settings.tree import Settings
from tests.gateway.wire import PATIENCE, connect, get, post, read_answer
from tests.running import RunningServer

PATH = b"/olla/openai/v1/chat/completions"
CHANGING = ("x-number", "date", "openai-processing-ms")
MANY = 3000
"""Pipelined requests that come in few reads."""


@pytest.fixture
def key(relay: RunningServer) -> str:
    return f"Authorization: Bearer {relay.key}"


class Parsed:
    """What the parser says of some bytes: each request with its head, but for the length, and its body."""

    def __init__(self, data: bytes) -> None:
        self.requests: list[tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes]] = []
        self._url, self._headers, self._body = b"", list[tuple[bytes, bytes]](), b""
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self.requests.append((self._parser.get_method(), self._url, self._headers, self._body))
        self._url, self._headers, self._body = b"", [], b""


def request(body: bytes, *more: bytes, length: bytes | None = None) -> bytes:
    lines = [b"POST %b HTTP/1.1" % PATH, b"Host: localhost", b"Content-Type: application/json", *more]
    return (
        b"\r\n".join([*lines, b"Content-Length: %b" % (length or b"%d" % len(body)), b"X-Last: 1"]) + b"\r\n\r\n" + body
    )


def remembered(data: bytes) -> KnownHead | None:
    place = known_place(b"POST", PATH)
    assert place is not None
    [(_, _, headers, _)] = Parsed(data).requests
    return known_head(data, Asked(place, (b"POST", PATH, b""), headers, ("127.0.0.1", "http", False)))


@trying(max_examples=300, deadline=None)
@given(st.binary(max_size=40), st.data())
def test_what_is_recognised_is_what_the_parser_would_have_read(body: bytes, data: st.DataObject) -> None:
    known = remembered(request(b"{}"))
    assert known is not None
    sent = bytearray(request(body))
    for _ in range(data.draw(st.integers(0, 2))):
        place = data.draw(st.integers(0, len(sent) - 1))
        piece = data.draw(
            st.sampled_from([b"", b"0", b"9", b"\r", b"\n", b"\r\n", b" ", b":", b"-", b"x", b"\0", b"+1"])
        )
        sent[place : place + data.draw(st.integers(0, 2))] = piece
    found = known.body_of(bytes(sent))
    if bytes(sent) == request(body):
        assert found == body
    if found is not None:
        [(method, url, headers, read)] = Parsed(bytes(sent)).requests
        asked = known.asked
        assert (method, url, sorted(headers), read) == (b"POST", PATH, sorted(asked.headers), found)


@pytest.mark.parametrize(
    "line",
    [
        b"Transfer-Encoding: chunked",
        b"Expect: 100-continue",
        b"Connection: close",
        b"Connection: keep-alive, X-Last",
        b"X-Pad: " + b"y" * 5000,
    ],
)
def test_a_head_with_more_to_it_is_the_parsers_each_time(line: bytes) -> None:
    plain = request(b"{}")
    place = known_place(b"POST", PATH)
    assert place is not None
    headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
    asked = Asked(place, (b"POST", PATH, b""), headers, ("127.0.0.1", "http", False))
    assert known_head(plain, asked) is not None
    assert known_head(plain.replace(b"X-Last: 1", line), asked) is None


@pytest.mark.parametrize(
    "data", [b"", b"POST", b"\r\n", request(b"{}")[:-1], request(b"{}") + b"G", request(b"{}") * 2]
)
def test_less_or_more_than_one_request_is_the_parsers(data: bytes) -> None:
    known = remembered(request(b"{}"))
    assert known is not None
    assert known.body_of(data) is None


def test_requests_of_one_head_are_answered_each_by_its_own_body_and_key(relay: RunningServer, key: str) -> None:
    path = "/olla/openai/echo"
    with connect(relay.url) as line:
        for number in (1, 1, 22, 333, 4444, 1):
            body = json.dumps({"model": "m1", "pad": "x" * number}).encode()
            line.sendall(post(path, body, key))
            answer = read_answer(line)
            assert (answer.status, answer.header("x-olla-endpoint")) == (200, "alpha")
            told = json.loads(answer.body)
            assert told["body"].encode() == body
            assert dict(told["headers"])["content-length"] == str(len(body))
        ids: set[str] = set()
        for other, status in ((key, 200), ("Authorization: Bearer no", 401), (key, 200), (key, 200)):
            line.sendall(post(path, b'{"model": "m1"}', other))
            answer = read_answer(line)
            assert answer.status == status
            ids.add(answer.header("x-olla-request-id") or "")
        assert len(ids) == 4
        line.sendall(get("/olla/models", key))
        assert read_answer(line).status == 200
        line.sendall(post(path, b'{"model": "none"}', key))
        assert read_answer(line).status == 404
        line.sendall(post(path, b'{"model": ', key))
        assert read_answer(line).status == 400
        line.sendall(post(path, b'{"model": "m1"}', key))
        assert read_answer(line).status == 200


def test_a_body_that_comes_late_behind_a_known_head_is_waited_for(relay: RunningServer, key: str) -> None:
    whole = post("/olla/openai/echo", b'{"model": "m1", "pad": "x"}', key)
    with connect(relay.url) as line:
        for cut in (len(whole), 20, len(whole) - 3, len(whole) - 27, len(whole)):
            line.sendall(whole[:cut])
            line.sendall(whole[cut:])
            assert json.loads(read_answer(line).body)["body"] == '{"model": "m1", "pad": "x"}'


def test_a_body_that_is_empty_behind_a_known_head_is_none(relay: RunningServer, key: str) -> None:
    with connect(relay.url) as line:
        for body in (b'{"model": "m1"}', b"", b""):
            line.sendall(post("/olla/openai/echo", body, key))
            answer = read_answer(line)
            assert (answer.status, json.loads(answer.body)["body"]) == (200, body.decode())
            assert answer.header("x-olla-model") == ("m1" if body else None)


@pytest.mark.parametrize("more", [(), ("Connection: close",)])
@pytest.mark.parametrize("how", ["", "empty, ", "status=404, ", "status=503, ", "gzip, "])
@pytest.mark.parametrize("path", ["/olla/openai/v1/embeddings", "/v1/embeddings"])
def test_an_answer_is_the_same_however_it_is_cut(
    relay: RunningServer, key: str, path: str, how: str, more: tuple[str, ...]
) -> None:
    told: list[object] = []
    with relay.client() as client:
        for cut in ("whole", "apart"):
            name = secrets.token_hex(8)
            asked = post(path, b'{"model": "m1", "input": "x"}', key, f"X-Request-ID: {name}", *more)
            with connect(relay.url) as line:
                line.sendall(asked.replace(b"\r\n\r\n", f"\r\nX-Fake: {how}{cut}\r\n\r\n".encode(), 1))
                answer = read_answer(line)
                if more:
                    assert line.recv(1) == b""
            headers = [pair for pair in answer.headers if pair[1] != name and pair[0] not in CHANGING]
            trailer = answer.trailers.rstrip(b"0123456789ms\r\n")
            own = client.get(f"/api/admin/requests/{name}").json()
            record = {field: own[field] for field in ("status", "bytes", "broken", "ran", "routing", "candidates")}
            record |= {"tries": [one[:2] for one in own["tries"]], "prompt": own["prompt_tokens"]}
            assert bool(trailer) is path.startswith("/olla")
            told.append((answer.status, headers, answer.body, trailer, answer.whole, record))
    assert told[0] == told[1]


def test_a_route_is_known_until_something_changes_and_by_short_names_only() -> None:
    directory = Directory(PoolBounds(1.0, 1.0, 1, 1000), {}, Balancing())
    gateway = SimpleNamespace(directory=directory, limiter=SimpleNamespace(apply=len))
    lane = Lane(cast("Gateway", gateway), Settings())
    place = known_place(b"POST", PATH)
    assert place is not None
    asked = Asked(place, (b"POST", PATH, b""), [], ("127.0.0.1", "http", False))
    first = lane.route(asked, "m1")
    assert lane.route(asked, "m1") is first
    assert lane.route(asked, "m" * 1000) is not lane.route(asked, "m" * 1000)
    directory.edition.number += 1
    second = lane.route(asked, "m1")
    assert (second is first, second.wanted.models) == (False, ("m1",))
    limits = SimpleNamespace(limits=(), model_aliases={"m1": ("other",)})
    lane.apply(cast("Settings", limits))
    assert lane.route(asked, "m1").wanted.models == ("other",)


def test_trailers_of_a_body_are_no_headers_and_have_an_end(relay: RunningServer, key: str) -> None:
    head = f"POST /olla/openai/echo HTTP/1.1\r\nHost: localhost\r\n{key}\r\nTransfer-Encoding: chunked\r\n\r\n"
    with connect(relay.url) as line:
        line.sendall(head.encode() + b"2\r\n{}\r\n0\r\nX-Late: 1\r\nX-Later: 2\r\n\r\n")
        told = json.loads(read_answer(line).body)
        assert (told["body"], [pair for pair in told["headers"] if pair[0].startswith("x-late")]) == ("{}", [])
        line.sendall(head.encode() + b"2\r\n{}\r\n0\r\n")
        with suppress(OSError):
            for _ in range(40):
                line.sendall(b"X-Late: " + b"y" * 65536 + b"\r\n")
        assert read_answer(line).status == 431


def test_behind_what_ends_a_connection_nothing_is_asked(relay: RunningServer, key: str) -> None:
    path = "/olla/openai/echo"
    with relay.client() as client:
        before = client.get("/internal/status").json()["system"]["total_requests"]
        with connect(relay.url) as line:
            refused = post(path, b"x" * 100_000)
            line.sendall(refused[:-10])
            assert read_answer(line).status == 401
            line.sendall(refused[-10:] + post(path, b'{"model": "m1"}', key))
            with suppress(ConnectionError):
                assert line.recv(1) == b""
        assert client.get("/internal/status").json()["system"]["total_requests"] == before


def test_who_does_not_read_is_not_listened_to_for_ever(relay: RunningServer) -> None:
    asked = post(PATH.decode(), b"{}", "X-Pad: " + "x" * 1000) * 1000
    with connect(relay.url) as line:
        line.settimeout(0.5)
        with pytest.raises(TimeoutError):
            for _ in range(100):
                line.sendall(asked)
        line.settimeout(PATIENCE)
        assert {read_status(reader) for reader in [line.makefile("rb")] for _ in range(MANY)} == {401}


def test_thousands_of_requests_behind_one_that_waits_are_answered_in_order(relay: RunningServer, key: str) -> None:
    with connect(relay.url) as line, line.makefile("rb") as reader:
        line.sendall(post("/olla/openai/echo", b'{"model": "m1"}', key) + post(PATH.decode(), b"{}") * MANY)
        line.shutdown(1)
        answers = reader.read().split(b"HTTP/1.1 ")[1:]
    assert len(answers) == MANY + 1
    assert answers[0].startswith(b"200 ")
    assert all(answer.startswith(b"401 ") for answer in answers[1:])


def read_status(reader: IO[bytes]) -> int:
    status, length = int(reader.readline().split()[1]), 0
    while (line := reader.readline()) != b"\r\n":
        name, _, value = line.partition(b":")
        length = int(value) if name == b"content-length" else length
    reader.read(length)
    return status
