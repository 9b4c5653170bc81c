"""Role by action: every route that is registered, and every path of the fast lane, for every kind of caller."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import closing
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
    ("GET", "/olla/models/"),
    ("GET", "/olla/openai/v1/models"),
    ("GET", "/olla/ollama/v1/models/m1"),
    ("GET", "/olla/nobody/v1/models"),
    ("GET", "/api"),
    ("GET", "/nowhere"),
    ("GET", "/api/admin/nowhere"),
    ("POST", "/api/admin"),
)
"""With those that the server does not list."""
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
ROLES = (
    *("nobody", "stranger", "user", "other user", "admin", "session", "admin session", "cookie"),
    *("revoked", "deactivated", "deactivated session", "demoted session", "expired session", "expired cookie"),
    *("key for models", "admin's key for models", "key for paths", "admin's key for paths"),
)
"""A stranger's key looks like nobody's; a cookie is a user's."""
OUT = ("revoked", "deactivated", "deactivated session", "expired session")
FOR_PATHS = ["/v1/*", "/api/admin/*"]


@pytest.fixture(scope="module", params=[True, False], ids=["keys required", "open door"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningServer]:
    fakes = [Fake("alpha", models=("m1",)), Fake("beta", "ollama", ("llama3:latest",))]
    auth = {"auth": {"signup": "open", "required": request.param}}
    with gateway(tmp_path_factory.mktemp("matrix"), fakes, more=auth) as server:
        for name in ("ann", "bob", "root", "gone"):
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
    if role in OUT:
        return "401"
    known = role not in ("nobody", "stranger", "expired cookie")
    is_admin = role.startswith("admin")
    if role.endswith("for paths") and not path.startswith(("/v1/", "/api/admin/")):
        return "403"
    rest = path.removeprefix("/olla/ollama" if path.startswith("/olla/") else "/ollama")
    changes = method in ("POST", "DELETE") and rest.startswith(CHANGES)
    if role.endswith("for models") and (path.startswith(("/api/admin", *OWN)) or changes):
        return "403"
    if path.startswith("/api/admin") or changes:
        return IN if is_admin else "403" if known else "401"
    if path.startswith(OWN):
        return IN if known else "401"
    if not required:
        return IN
    sight = path == "/metrics" or path.startswith("/internal/")
    return "401" if not known else "403" if sight and not is_admin else IN


def client_of(server: RunningServer, role: str) -> httpx2.Client:
    if role == "nobody":
        return anonymous(server)
    if role in ("stranger", "admin"):
        return server.client(key=server.key if role == "admin" else "sk-nobody-knows-this")
    if role.endswith(("session", "cookie")):
        return session_of(server, role)
    owner = {"deactivated": "gone", "other user": "bob"}.get(role, "root" if role.startswith("admin") else "ann")
    scopes = {"models": ["m*"]} if role.endswith("for models") else {}
    scopes |= {"paths": FOR_PATHS} if role.endswith("for paths") else {}
    with server.client() as admin:
        made = admin.post("/api/admin/keys", json={"username": owner, "alias": f"{role} key", **scopes}).json()
        if role == "revoked":
            admin.delete(f"/api/admin/keys/{made['id']}").raise_for_status()
        if role == "deactivated":
            changed(admin, "gone", is_active=False)
    return server.client(key=made["full_key"])


def session_of(server: RunningServer, role: str) -> httpx2.Client:
    name = {"admin session": "root", "deactivated session": "gone"}.get(role, "ann")
    with server.client() as admin:
        changed(admin, name, is_active=True, is_admin=name == "root" or role == "demoted session")
        token = token_of(server, name)
        if role == "deactivated session":
            changed(admin, name, is_active=False)
        if role == "demoted session":
            with server.client(key=token) as own:
                assert own.get("/api/admin/users").status_code == 200
            changed(admin, name, is_admin=False)
    if role.startswith("expired"):
        with closing(sqlite3.connect(server.data_dir / "atrium.db")) as database, database:
            (newest,) = database.execute("select max(id) from sessions").fetchone()
            database.execute("update sessions set expires_at = '2020-01-01 00:00:00' where id = ?", (newest,))
    if not role.endswith("cookie"):
        return server.client(key=token)
    client = anonymous(server)
    client.cookies.set("atrium_session", token)
    return client


def changed(admin: httpx2.Client, name: str, **change: bool) -> None:
    (number,) = [user["id"] for user in admin.get("/api/admin/users").json() if user["username"] == name]
    admin.put(f"/api/admin/users/{number}", json=change).raise_for_status()


@pytest.mark.parametrize("role", ROLES)
def test_every_action_is_open_to_whom_it_should_be(place: RunningServer, required: bool, role: str) -> None:
    wrong: list[str] = []
    every = actions(place)
    if role in ("nobody", "user"):
        # What may not be read may not be asked for by HEAD.
        every += [("HEAD", path) for method, path in every if method == "GET"]
    assert len(every) > 60
    with client_of(place, role) as client:
        for method, path in every:
            # A key for models is for none where none is named.
            body = {"model": "m1"} if role.endswith("for models") and method == "POST" else None
            with client.stream(method, path, json=body) as answer:
                got = str(answer.status_code) if answer.status_code in (401, 403) else IN
            wanted = expected(role, method, path, required=required)
            if got != wanted:
                wrong.append(f"{method} {path}: {got}, not {wanted}")
    assert not wrong


def test_a_server_that_is_open_makes_nobody_an_administrator(place: RunningServer) -> None:
    with anonymous(place) as client:
        for path in ("/api/admin/users", "/api/admin/quotas", "/api/admin/usage", "/api/auth/me"):
            assert client.get(path).status_code == 401
        unknown = {"Authorization": "Bearer lollms_0123456789abcdef_" + "0" * 48}
        assert client.get("/v1/models", headers=unknown).status_code == 401
