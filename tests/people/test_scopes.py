"""Keys that are good for some models or paths, and doors that are closed or open by themselves. Both lanes."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import pytest

from atrium.core.people import Caller, Scopes
from atrium.decisions.allow import may_use
from tests.gateway.fakes import Fake, gateway
from tests.people.conftest import anonymous, new_user, token_of
from tests.running import RunningServer

CHATS = ("/v1/chat/completions", "/olla/openai/v1/chat/completions", "/olla/proxy/v1/chat/completions")


def chat(model: str | None) -> dict[str, Any]:
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}]}
    return body if model is None else {**body, "model": model}


def scoped(server: RunningServer, name: str, **scopes: list[str]) -> str:
    new_user(server, name)
    with server.client(key=token_of(server, name)) as client:
        made = client.post("/api/api-keys", json={"alias": "narrow", **scopes})
        assert made.status_code == 201, made.text
        assert made.json()["models"] == scopes.get("models", [])
        return made.json()["full_key"]


def test_a_key_for_some_models_is_refused_others_on_every_way(house: RunningServer) -> None:
    with house.client(key=scoped(house, "mona", models=["m1", "small-*"])) as client:
        for path in CHATS:
            assert client.post(path, json=chat("m1")).status_code == 200
            assert client.post(path, json=chat("m2")).status_code == 403
            assert client.post(path, json=chat(None)).status_code == 403
        for path in ("/v1/chat/completions", "/v1/embeddings", "/v1/completions"):
            body = {**chat("other"), "input": "x", "prompt": "x"}
            answer = client.post(path, json=body)
            assert answer.status_code == 403
            assert "not for the model 'other'" in answer.json()["error"]["message"]


@pytest.mark.parametrize("root", ["/v1", "/lollms/v1"])
def test_a_key_for_some_models_counts_no_tokens_by_others(house: RunningServer, root: str) -> None:
    words = {"text": "a"}
    calls = {"tokenize": words, "detokenize": {"tokens": [1]}, "count_tokens": words, "context_size": {}}
    with house.client(key=scoped(house, f"rita{root.count('/')}", models=["m1"])) as client:
        for name, fields in calls.items():
            assert client.post(f"{root}/{name}", json={"model": "m1", **fields}).status_code == 200
            for model in ("m2", "alpha/m2", None):
                refused = client.post(f"{root}/{name}", json={"model": model, **fields})
                assert refused.status_code == 403, name
                assert "This key is not for the model" in refused.json()["error"]["message"]


def test_a_body_that_is_passed_on_unread_is_not_for_a_key_for_some_models(house: RunningServer) -> None:
    with house.client(key=scoped(house, "moss", models=["m1"])) as client:
        for kind in ("audio/wav", "application/octet-stream", "text/csv"):
            sound = b'{"model": "m2"}' + b" " * 200_000
            answer = client.post("/olla/openai/v1/sound", content=sound, headers={"Content-Type": kind})
            assert answer.status_code == 403
            assert "names none" in answer.json()["error"]["message"]


def test_a_name_for_several_models_is_for_a_key_that_is_good_for_it_or_for_all_of_them() -> None:
    def good(globs: tuple[str, ...], *names: str) -> bool:
        return may_use(Caller(1, "ann", scopes=Scopes(models=globs)), names)

    assert good((), "")
    assert good(("fast",), "fast", "m1", "m2")
    assert good(("m*",), "fast", "m1", "m2")
    assert not good(("m1",), "fast", "m1", "m2")
    assert good(("m1",), "M1", "m1")
    assert not good(("m1",), "", "")
    assert not good(("m1",))


def test_a_key_for_some_models_cannot_make_itself_a_wider_one(house: RunningServer) -> None:
    with house.client(key=scoped(house, "nora", models=["m1"])) as client:
        assert client.post("/api/api-keys", json={"alias": "wide"}).status_code == 403
        assert client.get("/api/auth/me").status_code == 403
    with house.client() as admin:
        wish = {"username": "admin", "alias": "narrow admin", "models": ["m1"]}
        key = admin.post("/api/admin/keys", json=wish).json()["full_key"]
    with house.client(key=key) as client:
        assert client.post("/api/admin/keys", json={"username": "admin", "alias": "x"}).status_code == 403


def test_a_key_for_some_paths_is_refused_others(house: RunningServer) -> None:
    with house.client(key=scoped(house, "olga", paths=["/v1/models*", "/v1/chat/*"])) as client:
        assert client.get("/v1/models").status_code == 200
        assert client.post("/v1/chat/completions", json=chat("m1")).status_code == 200
        for path in ("/v1/embeddings", "/olla/openai/v1/chat/completions", "/ollama/v1/chat/completions"):
            assert client.post(path, json=chat("m1")).status_code == 403
        assert client.get("/api/api-keys").status_code == 403


@pytest.mark.parametrize("shown", [{}, {"Authorization": "Bearer nokey"}, {"x-api-key": "sk-123"}])
def test_doors_have_rules_of_their_own(tmp_path: Path, shown: dict[str, str]) -> None:
    services = {"openai": {"enabled": False}, "ollama": {"require_key": False}, "lollms": {"require_key": True}}
    rules = {"auth": {"services": services}}
    with gateway(tmp_path, [Fake("alpha", models=("m1",))], more=rules) as server, anonymous(server) as nobody:
        for path in ("/v1/models", "/ollama/v1/models", "/lollms/v1/rag/databases", "/olla/models"):
            status = nobody.get(path, headers=shown).status_code
            assert status == {"/v1/models": 403, "/ollama/v1/models": 200}.get(path, 401)
        assert nobody.post("/v1/chat/completions", json=chat("m1"), headers=shown).status_code == 403
        with server.client() as admin:
            assert admin.post("/v1/chat/completions", json=chat("m1")).status_code == 403
            assert admin.post("/olla/openai/v1/chat/completions", json=chat("m1")).status_code == 200


def test_a_key_for_all_of_ollamas_paths_reaches_no_account(house: RunningServer) -> None:
    with house.client(key=scoped(house, "omar", models=["m1"], paths=["/api/*", "*"])) as client:
        assert client.get("/api/tags").status_code == 200
        for path in ("/api/api-keys", "/api/auth/me", "/api/usage"):
            assert client.get(path).status_code == 403
        assert client.post("/api/api-keys", json={"alias": "wider"}).status_code == 403
    with house.client() as admin:
        wish = {"username": "admin", "alias": "for ollama", "paths": ["/api/*"]}
        key = admin.post("/api/admin/keys", json=wish).json()["full_key"]
    with house.client(key=key) as client:
        assert client.get("/api/admin/users").status_code == 403


@pytest.mark.parametrize(
    ("wish", "status"),
    [
        ({}, 403),
        ({"models": ["m1"]}, 403),
        ({"models": ["m1"], "paths": ["/v1/*"]}, 403),
        ({"models": ["*"], "paths": ["/api/api-keys"]}, 403),
        ({"models": ["m1", "m*"], "paths": ["/api/api-keys"]}, 403),
        ({"models": ["t*"], "paths": ["/api/api-keys"]}, 403),
        ({"models": ["*[a-mini]*"], "paths": ["/api/api-keys"]}, 403),
        ({"models": ["*x-mini?"], "paths": ["/api/api-keys"]}, 201),
        ({"models": ["m1"], "paths": ["/api/api-keys"]}, 201),
        ({"models": ["small-[ab]", "small-*"], "paths": ["/api/api-keys*"]}, 201),
    ],
)
def test_a_key_makes_none_that_is_good_for_more_than_itself(
    house: RunningServer, wish: dict[str, list[str]], status: int
) -> None:
    name = f"kim{secrets.token_hex(4)}"
    with house.client(
        key=scoped(house, name, models=["m1", "small-*", "t?", "*-mini*"], paths=["/api/api-keys*"])
    ) as client:
        made = client.post("/api/api-keys", json={"alias": "another", **wish})
        assert made.status_code == status, made.text


def test_a_key_that_ends_makes_another_whose_end_names_no_zone(house: RunningServer) -> None:
    new_user(house, "zoe")
    with house.client(key=token_of(house, "zoe")) as client:
        wish = {"alias": "ends", "expires_at": "2999-01-01T00:00:00Z"}
        key = client.post("/api/api-keys", json=wish).json()["full_key"]
    with house.client(key=key) as client:
        made = client.post("/api/api-keys", json={"alias": "sooner", "expires_at": "2998-01-01T00:00:00"})
        assert made.status_code == 201, made.text
        assert made.json()["expires_at"] == "2998-01-01T00:00:00Z"
        wrong = client.post("/api/api-keys", json={"alias": "edge", "expires_at": "0001-01-01T00:00:00+14:00"})
        assert wrong.status_code == 422
