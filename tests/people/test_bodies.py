"""Bodies of what accounts and administrators ask for, which have no end, no sense or no hurry."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.fakes import gateway
from tests.people.conftest import anonymous
from tests.running import RunningServer

OWN = ("/api/auth/change-password", "/api/api-keys")


@pytest.mark.parametrize("path", OWN)
def test_a_body_that_tells_no_length_has_an_end_all_the_same(house: RunningServer, path: str) -> None:
    def pieces() -> Iterator[bytes]:
        yield from (b" " * 65536 for _ in range(64))

    with house.client() as client:
        answer = client.post(path, content=pieces(), headers={"Content-Type": "application/json"})
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "request_too_large"


@pytest.mark.parametrize("path", OWN)
@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"alias": ' + b"9" * 5000 + b"}", b"{", b"\xff"])
def test_a_body_that_cannot_be_read_is_told_in_the_usual_words(house: RunningServer, path: str, body: bytes) -> None:
    with house.client() as client:
        answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "invalid_json"
        assert answer.json()["detail"] == answer.json()["error"]["message"]


def test_a_login_with_too_many_fields_is_refused(house: RunningServer) -> None:
    with anonymous(house) as client:
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        assert client.post("/api/auth/token", content=b"a=b&" * 500, headers=kind).status_code == 422


def test_who_falls_silent_in_a_change_is_told_so(tmp_path: Path) -> None:
    with gateway(tmp_path, [], more={"limits": {"body_timeout": "200ms"}}) as server:
        head = f"POST /api/api-keys HTTP/1.1\r\nHost: {server.url[7:]}\r\nAuthorization: Bearer {server.key}\r\n"
        with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=30) as client:
            client.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{{".encode())
            assert client.recv(65536).startswith(b"HTTP/1.1 400 ")
