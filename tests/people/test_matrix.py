"""Role by action: every route that is registered, and every path of the fast lane, for every kind of caller."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.gateway.fakes import Fake, gateway
from tests.people.conftest import anonymous, new_user, token_of
from tests.running import RunningServer

LANE = (
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/embeddings"),
    ("POST", "/v1/responses"),
    ("POST", "/v1/rerank"),
    ("POST", "/v1/audio/speech"),
    ("POST", "/v1/images/generations"),
    ("POST", "/v1/moderations"),
    ("POST", "/api/chat"),
    ("POST", "/api/generate"),
    ("POST", "/api/embed"),
    ("POST", "/api/embeddings"),
    ("POST", "/api/show"),
    ("GET", "/olla/openai/v1/files"),
    ("POST", "/olla/openai/v1/chat/completions"),
    ("POST", "/olla/ollama/api/chat"),
    ("POST", "/olla/ollama/api/pull"),
    ("POST", "/olla/ollama/api/create"),
    ("POST", "/olla/ollama/api/copy"),
    ("POST", "/olla/ollama/api/push"),
    ("POST", "/olla/ollama/api/blobs/sha256:0"),
    ("DELETE", "/olla/ollama/api/delete"),
    ("GET", "/nowhere"),
)
OPEN = {
    "/",
    "/ollama",
    "/ollama/",
    "/version",
    "/healthz",
    "/readyz",
    "/internal/health",
    "/openapi.json",
    "/api/auth/token",
    "/api/auth/register",
}
OWN = ("/api/auth/", "/api/api-keys", "/api/usage")
CHANGES = ("/api/pull", "/api/push", "/api/create", "/api/copy", "/api/delete", "/api/blobs/")
KEPT = ("/api/auth/logout",)
"""Asked last: a session ends by it."""
IN = "in"
ROLES = ("nobody", "stranger", "user", "admin", "revoked", "session", "admin session", "cookie")
"""A stranger's key looks like nobody's; the cookie is a user's."""


@pytest.fixture(scope="module", params=[True, False], ids=["keys required", "open door"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningServer]:
    fakes = [Fake("alpha", models=("m1",)), Fake("beta", "ollama", ("llama3:latest",))]
    auth = {"auth": {"signup": "open", "required": request.param}}
    with gateway(tmp_path_factory.mktemp("matrix"), fakes, more=auth) as server:
        for name in ("ann", "root"):
            new_user(server, name, admin=name == "root")
        yield server


@pytest.fixture
def required(request: pytest.FixtureRequest) -> bool:
    return "keys required" in request.node.name


def actions(server: RunningServer) -> list[tuple[str, str]]:
    """What the server says it has, with something in the place of each parameter, and the lane's paths."""
    with anonymous(server) as client:
        paths: dict[str, dict[str, Any]] = client.get("/openapi.json").json()["paths"]
    found = {(method.upper(), filled(path)) for path, methods in paths.items() for method in methods}
    return sorted(found | set(LANE), key=lambda action: (action[1] in KEPT, action))


def filled(path: str) -> str:
    parts = ["0" if part.startswith("{") else part for part in path.split("/")]
    return "/".join(parts)


def expected(role: str, method: str, path: str, *, required: bool) -> str:
    """From the contracts, in words of their own."""
    if path in OPEN:
        return IN
    if role == "revoked":
        return "401"
    known = role not in ("nobody", "stranger")
    is_admin = role in ("admin", "admin session")
    rest = path.removeprefix("/olla/ollama" if path.startswith("/olla/") else "/ollama")
    changes = method in ("POST", "DELETE") and rest.startswith(CHANGES)
    if path.startswith("/api/admin") or changes:
        return IN if is_admin else "403" if known else "401"
    if path.startswith(OWN):
        return IN if known else "401"
    if not required:
        return IN
    sight = path == "/metrics" or path.startswith("/internal/")
    return "401" if not known else "403" if sight and not is_admin else IN


def client_of(server: RunningServer, role: str) -> httpx2.Client:
    keys: dict[str, str] = {"stranger": "sk-nobody-knows-this", "admin": server.key}
    if role in ("session", "admin session", "cookie"):
        token = token_of(server, "root" if role == "admin session" else "ann")
        if role != "cookie":
            return server.client(key=token)
        client = anonymous(server)
        client.cookies.set("atrium_session", token)
        return client
    if role == "nobody":
        return anonymous(server)
    if role in ("user", "revoked"):
        with server.client() as admin:
            made = admin.post("/api/admin/keys", json={"username": "ann", "alias": f"{role} key"}).json()
            if role == "revoked":
                admin.delete(f"/api/admin/keys/{made['id']}").raise_for_status()
        return server.client(key=made["full_key"])
    return server.client(key=keys[role])


@pytest.mark.parametrize("role", ROLES)
def test_every_action_is_open_to_whom_it_should_be(place: RunningServer, required: bool, role: str) -> None:
    wrong: list[str] = []
    every = actions(place)
    assert len(every) > 60
    with client_of(place, role) as client:
        for method, path in every:
            with client.stream(method, path) as answer:
                got = str(answer.status_code) if answer.status_code in (401, 403) else IN
            wanted = expected(role, method, path, required=required)
            if got != wanted:
                wrong.append(f"{method} {path}: {got}, not {wanted}")
    assert not wrong


def test_a_server_that_is_open_makes_nobody_an_administrator(place: RunningServer, tmp_path: Path) -> None:
    with anonymous(place) as client:
        for path in ("/api/admin/users", "/api/admin/quotas", "/api/admin/usage", "/api/auth/me"):
            assert client.get(path).status_code == 401
        unknown = {"Authorization": "Bearer lollms_0123456789abcdef_" + "0" * 48}
        assert client.get("/v1/models", headers=unknown).status_code == 401
