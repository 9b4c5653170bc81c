"""One server with people for all tests that leave it as it was."""

from __future__ import annotations

from collections.abc import Generator

import httpx2
import pytest

from tests.gateway.fakes import Fake, gateway
from tests.running import RunningServer

PASSWORD = "correct horse battery"
OPEN_SIGNUP = {"auth": {"signup": "open"}}


@pytest.fixture(scope="package")
def house(tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningServer]:
    """Keys required, sign-up open, one OpenAI endpoint with the models m1 and m2."""
    with gateway(tmp_path_factory.mktemp("house"), [Fake("alpha", models=("m1", "m2"))], more=OPEN_SIGNUP) as server:
        yield server


def new_user(server: RunningServer, name: str, *, admin: bool = False) -> int:
    with server.client() as client:
        made = client.post("/api/admin/users", json={"username": name, "password": PASSWORD, "is_admin": admin})
        assert made.status_code == 201, made.text
        return made.json()["id"]


def log_in(server: RunningServer, name: str, password: str = PASSWORD) -> httpx2.Response:
    with anonymous(server) as client:
        return client.post("/api/auth/token", data={"username": name, "password": password})


def anonymous(server: RunningServer) -> httpx2.Client:
    """A client that shows no key."""
    return httpx2.Client(base_url=server.url, trust_env=False, timeout=60)


def token_of(server: RunningServer, name: str) -> str:
    answer = log_in(server, name)
    assert answer.status_code == 200, answer.text
    return answer.json()["access_token"]
