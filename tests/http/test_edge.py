"""The edge on the wire: heads, hosts, keys, browsers, and errors in one form."""

from __future__ import annotations

import json
import socket
from collections.abc import Generator
from pathlib import Path

import httpx2
import pytest

from atrium.core.errors import AtriumError
from atrium.dialects.openai.errors import error_body
from atrium.http.edge import dropped_header, error_answer, take_request_id
from tests.docs.test_pages import leaves
from tests.running import RunningServer, running

SMALL = {
    "ATRIUM_MODELS__INSTALL_DEFAULTS": "false",
    "ATRIUM_LIMITS__HEADER_TIMEOUT": "300ms",
    "ATRIUM_LIMITS__MAX_HEADER": "8KB",
    "ATRIUM_LIMITS__CONNECTIONS": "20",
    "ATRIUM_LIMITS__BODY_TIMEOUT": "300ms",
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningServer]:
    """A server with narrow bounds and no models."""
    with running(tmp_path_factory.mktemp("small") / "data", **SMALL) as server:
        yield server


def wire(server: RunningServer, *pieces: bytes) -> bytes:
    """Everything that comes back until the server closes."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        for piece in pieces:
            connection.sendall(piece)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


def head(server: RunningServer, *lines: str, path: str = "/v1/models") -> bytes:
    own = ("Connection: close", f"Authorization: Bearer {server.key}", *lines)
    return "\r\n".join((f"GET {path} HTTP/1.1", *own, "", "")).encode("latin-1")


def error_of(answer: bytes) -> tuple[int, str]:
    first, body = answer.split(b"\r\n\r\n", 1)
    return int(first.split()[1]), json.loads(body)["error"]["code"]


def test_a_head_that_is_too_long_is_a_431(small: RunningServer) -> None:
    assert error_of(wire(small, b"GET / HTTP/1.1\r\nX: " + b"a" * 20_000)) == (431, "headers_too_large")


def test_a_head_that_never_ends_is_a_408(small: RunningServer) -> None:
    assert error_of(wire(small, b"GET / HTTP/1.1\r\nHost: localhost\r\n")) == (408, "request_timeout")


def test_a_silent_connection_is_closed(small: RunningServer) -> None:
    assert error_of(wire(small)) == (408, "request_timeout")


def test_a_body_that_stops_coming_is_a_400(small: RunningServer) -> None:
    post = head(small, "Host: localhost", "Content-Length: 9", path="/v1/embeddings").replace(b"GET", b"POST", 1)
    assert error_of(wire(small, post, b"{")) == (400, "invalid_value")


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x00" * 50])
def test_what_is_not_http_is_a_400(small: RunningServer, garbage: bytes) -> None:
    assert error_of(wire(small, garbage + b"\r\n\r\n"))[0] == 400


def test_smuggled_lengths_are_refused(small: RunningServer) -> None:
    both = head(small, "Host: localhost", "Content-Length: 5", "Transfer-Encoding: chunked").replace(b"GET", b"POST", 1)
    twice = head(small, "Host: localhost", "Content-Length: 5", "Content-Length: 6").replace(b"GET", b"POST", 1)
    for request in (both, twice):
        assert wire(small, request, b"0\r\n\r\n").split()[1] == b"400"


def test_one_connection_too_many_is_told_so(small: RunningServer) -> None:
    host, port = small.url.removeprefix("http://").split(":")
    held = [socket.create_connection((host, int(port))) for _ in range(30)]
    answers = b""
    for connection in held:
        connection.settimeout(20)
        answers += b"".join(iter(lambda c=connection: c.recv(4096), b""))
        connection.close()
    assert b"Too many connections" in answers


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:5", 200),
        ("evil.example", 403),
        ("localhost.evil.example", 403),
    ],
)
def test_a_server_on_loopback_answers_to_its_own_names_only(small: RunningServer, host: str, status: int) -> None:
    assert int(wire(small, head(small, f"Host: {host}")).split()[1]) == status


@pytest.mark.parametrize("name", ["X-Api-Key", "xi-api-key", "api-key"])
def test_a_key_is_read_from_each_header(small: RunningServer, name: str) -> None:
    with httpx2.Client(base_url=small.url, trust_env=False) as client:
        assert client.get("/v1/models", headers={name: small.key}).status_code == 200
        assert client.get("/v1/models", headers={name: small.key[:-1] + "x"}).status_code == 401
        lower = client.get("/v1/models", headers={"authorization": f"bEaReR {small.key}"})
        both = client.get("/v1/models", headers={"Authorization": "Bearer nonsense", name: small.key})
    assert lower.status_code == 200
    assert both.status_code == 401


def test_keys_that_are_missing_wrong_or_in_the_address_are_refused(small: RunningServer) -> None:
    with httpx2.Client(base_url=small.url, trust_env=False) as client:
        missing = client.get("/v1/models")
        inside = client.get(f"/v1/models?api_key={small.key}", headers={"Authorization": f"Bearer {small.key}"})
    assert missing.status_code == 401
    assert missing.json()["error"]["code"] == "missing_api_key"
    assert missing.headers["www-authenticate"] == "Bearer"
    assert inside.status_code == 401
    assert small.key not in inside.text


def test_what_is_open_needs_no_key_and_the_rest_does(small: RunningServer) -> None:
    with httpx2.Client(base_url=small.url, trust_env=False) as client:
        for path in ("/", "/version", "/healthz", "/readyz", "/internal/health", "/openapi.json"):
            assert client.get(path).status_code == 200, path
        for path in ("/metrics", "/api/admin/users", "/v1/models", "/nowhere"):
            assert client.get(path).status_code == 401, path
        assert client.head("/internal/health").status_code == 200


def test_browsers_of_other_origins_are_answered_without_a_key(small: RunningServer) -> None:
    asking = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    with httpx2.Client(base_url=small.url, trust_env=False) as client:
        preflight = client.options("/v1/chat/completions", headers=asking)
        refused = client.post("/v1/chat/completions", headers={"Origin": "https://app.example"})
    assert preflight.status_code == 204
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert refused.status_code == 401
    assert refused.headers.get_list("access-control-allow-origin") == ["*"]


def test_every_answer_carries_its_request_id(small: RunningServer) -> None:
    with httpx2.Client(base_url=small.url, trust_env=False) as client:
        own = client.get("/healthz", headers={"X-Request-ID": "mine-1"}).headers["x-request-id"]
        made = {client.get("/healthz", headers={"X-Request-ID": "not one"}).headers["x-request-id"] for _ in range(2)}
    assert own == "mine-1"
    assert len(made) == 2


def test_the_administrators_api_wants_an_administrator(small: RunningServer) -> None:
    with small.client() as client:
        client.post("/api/admin/users", json={"username": "ann"}).raise_for_status()
        key = client.post("/api/admin/keys", json={"username": "ann", "alias": "a"}).json()["full_key"]
        with small.client(key=key) as ann:
            assert ann.get("/v1/models").status_code == 200
            assert ann.get("/api/admin/users").status_code == 403
            assert ann.get("/metrics").status_code == 403
        odd = client.post("/api/admin/users", json={"username": "b", "is_admin": "yes"})
        taken = client.post("/api/admin/users", json={"username": "ANN"})
    assert odd.status_code == 422
    assert odd.json()["error"]["param"] == "is_admin"
    assert taken.status_code == 409


def test_an_open_door_lets_strangers_use_models_and_nothing_else(tmp_path: Path) -> None:
    with running(tmp_path / "data", ATRIUM_AUTH__REQUIRED="false", ATRIUM_MODELS__INSTALL_DEFAULTS="false") as server:
        for key, status in (("sk-anything", 200), ("lollms_" + "0" * 16 + "_" + "0" * 48, 401)):
            with server.client(key=key) as client:
                assert client.get("/v1/models").status_code == status
        with httpx2.Client(base_url=server.url, trust_env=False) as stranger:
            assert stranger.get("/v1/models").status_code == 200
            assert stranger.get("/metrics").status_code == 200
            assert stranger.get("/api/admin/users").status_code == 401


def test_every_error_of_the_tree_is_rendered_with_all_members() -> None:
    for kind in leaves(AtriumError):
        if kind.__init__ is not AtriumError.__init__:
            continue
        error = kind("What happened", hint="What to do", param="field", retry_after=0.2)
        status, headers, body = error_answer(error)
        rendered = json.loads(body)["error"]
        assert status == kind.status
        assert rendered == json.loads(error_body(error))["error"]
        assert rendered["message"] == "What happened. What to do"
        assert rendered["type"].endswith("_error")
        assert dict(headers)[b"retry-after"] == b"1"


@pytest.mark.parametrize(
    ("given", "taken"), [(b"a-1", True), (b"", False), (b"a b", False), (b"a" * 129, False), (b"\xff", False)]
)
def test_a_request_id_is_taken_over_if_it_is_decent(given: bytes, taken: bool) -> None:
    assert (take_request_id(given) == given.decode("latin-1")) is taken


def test_dropped_names_cannot_break_the_header() -> None:
    assert dropped_header(["a", "b\r\nX: y", "ü"])["X-Atrium-Dropped"] == "a, b%0D%0AX%3A%20y, %C3%BC"
    assert dropped_header([]) == {}
    assert dropped_header([str(n) for n in range(99)])["X-Atrium-Dropped"].count(",") == 31
