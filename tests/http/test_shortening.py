"""Turns that are left out of a chat which does not fit, on the wire. The fake's tokens are bytes."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.running import RunningServer, running

FAKES = {
    "ATRIUM_MODELS__INSTALL_DEFAULTS": "false",
    "ATRIUM_MODELS__ALLOW_FAKE": "true",
}
CONFIG = "models:\n  context_policies: {lenient: left}\n"


@pytest.fixture(scope="module")
def fakes(tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningServer]:
    """Two models of a thousand tokens; one of them may leave turns out unasked."""
    folder: Path = tmp_path_factory.mktemp("short")
    config = folder / "atrium.yaml"
    config.write_text(CONFIG)
    data = folder / "data"
    with running(data, "--config", str(config), **FAKES) as server:
        server.install(*(f"fake:{name}?context=1000&words=5" for name in ("strict", "lenient")))
        (data / "models" / "own.yaml").write_text("base: strict\ncontext_policy: left\n")
        (data / "models" / "never.yaml").write_text("base: lenient\ncontext_policy: refuse\n")
        with server.client() as client:
            assert client.post("/api/admin/models/rescan").json()["problems"] == {}
        yield server


def ask(server: RunningServer, headers: dict[str, str] | None = None, **body: Any) -> Any:
    with server.client() as client:
        return client.post("/v1/chat/completions", json={"model": "strict", "max_tokens": 50, **body}, headers=headers)


def told(turns: int) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = [{"role": "system", "content": "Be brief."}]
    for number in range(turns):
        messages += [{"role": "user", "content": f"{number:03}" + "?" * 97}, {"role": "assistant", "content": "Yes."}]
    return [*messages, {"role": "user", "content": "And now?"}]


@pytest.mark.parametrize("stream", [False, True])
def test_by_default_what_does_not_fit_is_refused(fakes: RunningServer, stream: bool) -> None:
    refused = ask(fakes, messages=told(30), stream=stream)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert refused.json()["error"]["param"] == "messages"
    assert "1000" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ({"truncation": "auto"}, {}),
        ({}, {"X-Atrium-Truncate": "left"}),
        ({"model": "lenient"}, {}),
        ({"model": "own"}, {}),
    ],
    ids=["field", "header", "configuration", "the model's own file"],
)
def test_the_fewest_oldest_turns_are_left_out_and_the_answer_says_how_many(
    fakes: RunningServer, body: dict[str, Any], headers: dict[str, str]
) -> None:
    answer = ask(fakes, messages=told(30), headers=headers, **body)
    gone = int(answer.headers["x-atrium-truncated"])
    used = answer.json()["usage"]["prompt_tokens"]
    kept = [told(30)[0], *told(30)[1 + 2 * gone :]]
    assert used == ask(fakes, messages=kept).json()["usage"]["prompt_tokens"]
    turn = len("<>user\n<>\n<>assistant\n<>\n") - 4 + 100 + len("Yes.")
    assert used <= 950 < used + turn, "one turn more would not have left room for the answer"


def test_with_middle_the_first_turn_stays(fakes: RunningServer) -> None:
    answer = ask(fakes, messages=told(30), headers={"X-Atrium-Truncate": "middle"}, stream=True)
    gone = int(answer.headers["x-atrium-truncated"])
    assert answer.text.endswith("data: [DONE]\n\n")
    oldest = ask(fakes, messages=told(30), headers={"X-Atrium-Truncate": "left"})
    assert gone == int(oldest.headers["x-atrium-truncated"]), "turns are of one length here"


def test_a_request_may_ask_for_less_than_the_configuration_allows(fakes: RunningServer) -> None:
    refused = ask(fakes, model="lenient", messages=told(30), truncation="disabled")
    assert refused.json()["error"]["code"] == "context_length_exceeded"
    wrong = ask(fakes, messages=told(1), headers={"X-Atrium-Truncate": "sideways"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "X-Atrium-Truncate")


def test_the_models_own_file_counts_in_every_dialect_and_the_request_comes_before_it(fakes: RunningServer) -> None:
    with fakes.client() as client:

        def ollama(model: str, **body: Any) -> int:
            asked = {"model": model, "messages": told(30), "options": {"num_predict": 5}, "stream": False, **body}
            return client.post("/api/chat", json=asked).status_code

        assert ollama("strict") == 200, "what Ollama's clients are used to"
        assert ollama("never") == 400
        assert ollama("never", truncate=True) == 200
        assert ollama("own", truncate=False) == 400
    assert ask(fakes, model="never", messages=told(30)).status_code == 400
    assert ask(fakes, model="never", messages=told(30), truncation="auto").status_code == 200


def test_what_must_stay_and_does_not_fit_is_refused_all_the_same(fakes: RunningServer) -> None:
    huge = [*told(3)[:-1], {"role": "user", "content": "!" * 2000}]
    refused = ask(fakes, messages=huge, truncation="auto", stream=True)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")


def test_what_fits_is_never_touched(fakes: RunningServer) -> None:
    assert "x-atrium-truncated" not in ask(fakes, messages=told(2), truncation="auto").headers


def test_a_call_and_its_answer_leave_together(fakes: RunningServer) -> None:
    rounds: list[dict[str, Any]] = [{"role": "user", "content": "Go on and on."}]
    for number in range(20):
        call = {"id": f"c{number}", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        rounds += [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": f"c{number}", "content": "." * 80},
        ]
    answer = ask(fakes, messages=rounds, truncation="auto")
    gone = int(answer.headers["x-atrium-truncated"])
    kept = [rounds[0], *rounds[1 + 2 * gone :]]
    assert answer.json()["usage"]["prompt_tokens"] == ask(fakes, messages=kept).json()["usage"]["prompt_tokens"]


@pytest.mark.parametrize("stream", [False, True])
def test_ollamas_answers_say_what_was_left_out_and_dropped_too(fakes: RunningServer, stream: bool) -> None:
    left = ask(fakes, messages=told(30), max_tokens=5, headers={"X-Atrium-Truncate": "left"})
    gone = left.headers["x-atrium-truncated"]
    body = {"model": "strict", "messages": told(30), "options": {"num_predict": 5}, "stream": stream}
    with fakes.client() as client:
        answer = client.post("/api/chat", json=body)
        assert (answer.status_code, answer.headers["x-atrium-truncated"]) == (200, gone)
        assert "x-atrium-dropped" not in answer.headers
        shape = {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}
        shaped = client.post("/api/chat", json={**body, "messages": told(1), "format": shape})
        assert shaped.status_code == 200
        assert "uniqueItems" in shaped.headers["x-atrium-dropped"]
        assert "x-atrium-truncated" not in shaped.headers
