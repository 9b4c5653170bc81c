"""Behind an open door nobody has anything of their own."""

from __future__ import annotations

from pathlib import Path

import httpx2

from tests.people.conftest import anonymous
from tests.running import running
from tests.stores.shop import FAKES

CHATS = "/v1/chat/completions"
OPEN = {**FAKES, "ATRIUM_AUTH__REQUIRED": "false"}


def stored(client: httpx2.Client) -> httpx2.Response:
    body = {"messages": [{"role": "user", "content": "a secret"}], "store": True, "metadata": {"a": "b"}}
    answer = client.post(CHATS, json=body)
    assert answer.status_code == 200, answer.text
    return answer


def kept(client: httpx2.Client) -> list[str]:
    return [one["id"] for one in client.get(CHATS).json()["data"]]


def test_no_chat_is_kept_of_who_is_anonymous(tmp_path: Path) -> None:
    with running(tmp_path / "data", **OPEN) as server, anonymous(server) as nobody, server.client() as somebody:
        server.install("fake:talk?words=8")
        answer = stored(nobody)
        assert answer.headers["x-atrium-dropped"] == "store"
        name = answer.json()["id"]
        assert kept(nobody) == []
        for method in ("GET", "DELETE"):
            assert nobody.request(method, f"{CHATS}/{name}").status_code == 404
        own = stored(somebody)
        assert "x-atrium-dropped" not in own.headers
        assert kept(somebody) == [own.json()["id"]]
        for method in ("GET", "DELETE"):
            assert nobody.request(method, f"{CHATS}/{own.json()['id']}").status_code == 404
