"""Which methods a path takes, for every route that is registered and every path of the lane. RFC 9110."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from tests.people.conftest import anonymous
from tests.people.test_matrix import LANE, filled
from tests.running import RunningServer

ANY = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


def table(client: httpx2.Client) -> dict[str, set[str]]:
    """What each path takes, by those of its routes that are written so."""
    paths: dict[str, dict[str, Any]] = client.get("/openapi.json").json()["paths"]
    found: dict[str, set[str]] = {}
    for path, methods in paths.items():
        found.setdefault(filled(path), set()).update(method.upper() for method in methods)
    for method, path in LANE:
        if path.startswith("/v1/") and path.count("/") == 2:
            found.setdefault(path, set()).add(method)
    return found


def test_a_wrong_method_is_told_of_every_right_one(house: RunningServer) -> None:
    wrong: list[str] = []
    with house.client() as client:
        paths = table(client)
        assert len(paths) > 60
        assert any(len(methods) > 2 for methods in paths.values())
        for path, methods in paths.items():
            refused = client.request("TRACE", path)
            allow = {name.strip() for name in refused.headers.get("allow", "").split(",")}
            if refused.status_code != 405 or not methods | {"OPTIONS"} <= allow or ("GET" in allow) > ("HEAD" in allow):
                wrong.append(f"TRACE {path}: {refused.status_code}, {sorted(allow)}")
            for method in sorted(ANY):
                with client.stream(method, path) as answer:
                    taken = answer.status_code != 405
                if taken != (method in allow) or (not taken and answer.headers["allow"] != refused.headers["allow"]):
                    wrong.append(f"{method} {path}: {answer.status_code}, {sorted(allow)}")
    assert not wrong


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/api/tags", "ollama"),
        ("/ollama/api/chat", "ollama"),
        ("/v1/chat/completions", "openai"),
        ("/api/api-keys", "lollms"),
    ],
)
def test_a_wrong_method_is_told_so_in_the_callers_dialect(house: RunningServer, path: str, place: str) -> None:
    with house.client() as client:
        answer = client.request("PATCH", path)
    assert answer.status_code == 405
    body = answer.json()
    message = body["error"] if place == "ollama" else body["error"]["message"]
    assert "PATCH is not allowed on" in message
    assert ("detail" in body) == (place == "lollms")


def test_head_is_as_get_without_a_body_and_options_is_answered_everywhere(house: RunningServer) -> None:
    wrong: list[str] = []
    with house.client() as client, anonymous(house) as nobody:
        for path, methods in table(client).items():
            if nobody.options(path).status_code != 204:
                wrong.append(f"OPTIONS {path}")
            if "GET" in methods:
                head, whole = client.head(path), client.get(path)
                if (head.status_code, head.content) != (whole.status_code, b""):
                    wrong.append(f"HEAD {path}: {head.status_code}, not {whole.status_code}")
    assert not wrong


def test_nowhere_is_404_whatever_the_method(house: RunningServer) -> None:
    with house.client() as client:
        for method in ANY - {"OPTIONS"}:
            answer = client.request(method, "/api/nowhere")
            assert (answer.status_code, "allow" in answer.headers) == (404, False)
