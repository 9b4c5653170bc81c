"""Personalities stand in the configuration; a chat names one, and its prompt comes first. Contract, section 4."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import httpx2
import pytest

from tests.lollms.conftest import beside
from tests.lollms.endpoints import Endpoint
from tests.running import RunningServer, command, running

CONFIG = """
personalities:
  - {id: pirate, name: Old Pirate, prompt: Speak like a pirate., category: fun, author: ann}
  - {id: plain, prompt: Be plain.}
"""
FAKES = {"ATRIUM_MODELS__INSTALL_DEFAULTS": "false", "ATRIUM_MODELS__ALLOW_FAKE": "true"}
ASKED = [{"role": "user", "content": "Who are you?"}]
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def inn(tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningServer]:
    folder = tmp_path_factory.mktemp("inn")
    config = folder / "atrium.yaml"
    config.write_text(CONFIG)
    assert command(folder / "data", "models", "install", "fake:talk?words=3", **FAKES).returncode == 0
    with running(folder / "data", "--config", str(config), **FAKES) as server:
        yield server


@pytest.fixture
def client(inn: RunningServer) -> Generator[httpx2.Client]:
    with inn.client() as client:
        yield client


@pytest.mark.parametrize("prefix", ["/v1", "/lollms/v1"])
def test_those_that_are_configured_are_listed(client: httpx2.Client, prefix: str) -> None:
    listed = client.get(f"{prefix}/personalities").json()
    assert listed["object"] == "list"
    pirate, plain = listed["data"]
    told = {"id": "pirate", "object": "personality", "name": "Old Pirate", "category": "fun", "author": "ann"}
    assert told.items() <= pirate.items()
    assert pirate.keys() == {*told, "description", "is_public", "owner_username", "created_at"}
    assert plain["name"] == "plain"
    assert "prompt" not in pirate


@pytest.mark.parametrize("own", [[], [{"role": "system", "content": "Be brief."}]], ids=["alone", "beside another"])
def test_a_personalitys_prompt_comes_first(inn: RunningServer, client: httpx2.Client, own: list[Any]) -> None:
    endpoint = Endpoint("openai", "reader")
    with beside(inn, endpoint):
        body = {"model": "reader", "messages": [*own, *ASKED], "personality": "pirate"}
        assert client.post(CHAT, json=body).status_code == 200
        client.post(CHAT, json={**body, "personality": None})
    with_it, without = endpoint.prompts
    assert with_it.startswith("Speak like a pirate.")
    assert with_it.endswith(without)


def test_a_local_model_has_it_too(client: httpx2.Client) -> None:
    body = {"model": "talk", "messages": ASKED, "max_tokens": 3}
    plain = client.post(CHAT, json=body).json()["usage"]["prompt_tokens"]
    answer = client.post(CHAT, json={**body, "personality": "pirate"})
    assert answer.json()["usage"]["prompt_tokens"] >= plain + len("Speak like a pirate.")
    assert "x-atrium-dropped" not in answer.headers


def test_one_that_is_not_there_is_not_found(client: httpx2.Client) -> None:
    answer = client.post(CHAT, json={"model": "talk", "messages": ASKED, "personality": "nobody"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (404, "personality")


def test_two_of_one_id_stop_the_start(inn: RunningServer) -> None:
    config = inn.data_dir.parent / "twice.yaml"
    config.write_text("personalities: [{id: a, prompt: x}, {id: a, prompt: y}]")
    done = command(inn.data_dir.parent / "other", "serve", "--port", "0", "--config", str(config), **FAKES)
    assert done.returncode != 0
    assert "Two personalities" in done.stderr + done.stdout
