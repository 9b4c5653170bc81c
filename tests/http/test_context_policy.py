"""Whose word it is what becomes of a chat that does not fit, under Ollama's paths too, whoever answers it.

The fake's tokens are bytes, those of the endpoints are words.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any

import pytest

from tests.lollms.conftest import beside
from tests.lollms.endpoints import Endpoint
from tests.running import RunningServer, running

WINDOW = 3000
SUMMARISED = "Summary of the conversation so far"
FAKES = {"ATRIUM_MODELS__INSTALL_DEFAULTS": "false", "ATRIUM_MODELS__ALLOW_FAKE": "true"}
CONFIG = """
models:
  context_policy: refuse
  context_policies: {sums: summarize, "far-sums:latest": summarize, eases: left, as-usual: usual, far-usual: usual}
"""
Json = dict[str, Any]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningServer]:
    """Its owner wants nothing to be cut, but for some models."""
    folder = tmp_path_factory.mktemp("policies")
    (folder / "atrium.yaml").write_text(CONFIG)
    with running(folder / "data", "--config", str(folder / "atrium.yaml"), **FAKES) as server:
        server.install(*(f"fake:{name}?context={WINDOW}&words=5" for name in ("plain", "sums", "eases", "as-usual")))
        yield server


def told(turns: int) -> list[Json]:
    messages: list[Json] = [{"role": "system", "content": "Be brief."}]
    for number in range(turns):
        question = f"Q{number}: " + "why " * 25
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": "Yes."}]
    return [*messages, {"role": "user", "content": "And now?"}]


def ask(server: RunningServer, path: str, headers: dict[str, str] | None = None, **body: Any) -> Any:
    with server.client() as client:
        asked = {"options": {"num_predict": 20}, "stream": False, **body}
        return client.post(path, json=asked, headers=headers)


def gone(answer: Any) -> int:
    assert answer.status_code == 200, answer.text
    return int(answer.headers.get("x-atrium-truncated", "0"))


def test_the_servers_word_counts_under_ollamas_paths_and_the_requests_before_it(server: RunningServer) -> None:
    for root in ("/api", "/ollama/api"):
        refused = ask(server, f"{root}/chat", model="plain", messages=told(60))
        assert refused.status_code == 400
        assert str(WINDOW) in refused.json()["error"]
        assert gone(ask(server, f"{root}/chat", model="plain", messages=told(60), truncate=True)) > 0
    assert gone(ask(server, "/api/chat", model="eases:latest", messages=told(60))) > 0
    assert gone(ask(server, "/api/chat", model="as-usual", messages=told(60))) > 0, "Ollama's clients are used to it"
    assert ask(server, "/api/chat", model="eases", messages=told(60), truncate=False).status_code == 400
    usual = ask(server, "/v1/chat/completions", model="as-usual", messages=told(60))
    assert usual.json()["error"]["code"] == "context_length_exceeded", "and OpenAI's are not"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("model", "headers"), [("sums", {}), ("plain", {"X-Atrium-Truncate": "summarize"})])
def test_a_chat_of_ollamas_goes_on_with_a_summary(
    server: RunningServer, model: str, headers: dict[str, str], stream: bool
) -> None:
    answer = ask(server, "/api/chat", headers, model=model, messages=told(60), stream=stream)
    assert 1 <= gone(answer) < 60
    last = json.loads(answer.text.splitlines()[-1])
    assert last["done"] is True
    kept = [told(60)[0], *told(60)[1 + 2 * gone(answer) :]]
    without = ask(server, "/api/chat", model=model, messages=kept).json()["prompt_eval_count"]
    assert without < last["prompt_eval_count"] <= WINDOW - 20, "the summary stands beside the turns that stayed"


def test_a_summary_is_made_with_the_window_that_the_request_has(server: RunningServer) -> None:
    options = {"num_ctx": 2000, "num_predict": 20}
    answer = ask(server, "/api/chat", model="sums", messages=told(60), options=options)
    assert gone(answer) > gone(ask(server, "/api/chat", model="sums", messages=told(60)))
    assert answer.json()["prompt_eval_count"] <= 1980
    with server.client() as client:
        ask(server, "/api/chat", model="sums", messages=told(60), options=options)
        loaded = {one["name"]: one["context_length"] for one in client.get("/api/ps").json()["models"]}
    assert loaded["sums:latest"] == 2000, "it was not loaded anew for the summary"


def test_a_generation_goes_on_from_as_much_of_its_context_as_fits(server: RunningServer) -> None:
    first = ask(server, "/api/generate", model="plain", prompt="a" * 2800)
    context = first.json()["context"]
    more: Json = {"prompt": "b" * 500, "context": context}
    refused = ask(server, "/api/generate", model="plain", **more)
    assert (refused.status_code, str(WINDOW) in refused.json()["error"]) == (400, True)
    shortened = ask(server, "/api/generate", {"X-Atrium-Truncate": "left"}, model="plain", **more)
    assert gone(shortened) == 1
    assert 2000 < shortened.json()["prompt_eval_count"] <= WINDOW - 20
    summed = ask(server, "/api/generate", {"X-Atrium-Truncate": "summarize"}, model="plain", **more)
    assert gone(summed) == 1
    assert 600 < summed.json()["prompt_eval_count"] < 2000


def test_a_prompt_that_is_one_turn_is_refused_with_both_lengths(server: RunningServer) -> None:
    for how in ("left", "middle", "summarize", "refuse"):
        refused = ask(server, "/api/generate", {"X-Atrium-Truncate": how}, model="plain", prompt="a" * 4000)
        assert refused.status_code == 400
        assert str(WINDOW) in refused.json()["error"]
    wrong = ask(server, "/api/generate", {"X-Atrium-Truncate": "sideways"}, model="plain", prompt="a")
    assert (wrong.status_code, "X-Atrium-Truncate" in wrong.json()["error"]) == (400, True)


@pytest.mark.parametrize("root", ["/api", "/ollama/api"])
@pytest.mark.parametrize("stream", [False, True])
def test_an_ollama_endpoints_chat_goes_on_with_a_summary(server: RunningServer, root: str, stream: bool) -> None:
    far = Endpoint("ollama", "far-sums:latest", loaded=1000, window=100_000, strict=True, reply=lambda _: "yes")
    with beside(server, far):
        answer = ask(server, f"{root}/chat", model="far-sums", messages=told(60), stream=stream)
        assert 1 <= gone(answer) < 60
        assert SUMMARISED in far.prompts[-1]
        assert not far.overruns, "what is sent was counted first, by the window that it is loaded with"
        assert far.bodies[-1]["truncate"] is False
        assert "Q59:" in far.prompts[-1]
        fits = ask(server, f"{root}/chat", model="far-sums", messages=told(2), stream=stream)
        assert gone(fits) == 0


@pytest.mark.parametrize("how", ["left", "middle", "summarize"])
def test_an_ollama_endpoint_is_shortened_for_as_the_request_asks(server: RunningServer, how: str) -> None:
    far = Endpoint("ollama", "far-usual", window=3000, strict=True, reply=lambda _: "yes")
    with beside(server, far):
        answer = ask(server, "/api/chat", {"X-Atrium-Truncate": how}, model="far-usual", messages=told(60))
        assert 1 <= gone(answer) < 60
        assert ("Q0:" in far.prompts[-1].partition(SUMMARISED)[0]) is (how == "middle")
        assert (SUMMARISED in far.prompts[-1]) is (how == "summarize")
        options = {"num_ctx": 1800, "num_predict": 20}
        less = ask(
            server, "/api/chat", {"X-Atrium-Truncate": how}, model="far-usual", messages=told(60), options=options
        )
        assert gone(less) > gone(answer)
        assert far.bodies[-1]["options"]["num_ctx"] == 1800


def test_an_ollama_endpoint_refuses_where_nothing_is_to_be_cut(server: RunningServer) -> None:
    far = Endpoint("ollama", "far", window=1000, strict=True)
    with beside(server, far):
        asked: tuple[tuple[str, Json], ...] = (
            ("/api/chat", {"messages": told(60)}),
            ("/api/generate", {"prompt": "word " * 2000, "system": "Be brief.", "context": [1, 2]}),
            ("/api/generate", {"prompt": "word " * 2000, "raw": True}),
        )
        for path, body in asked:
            refused = ask(server, path, model="far", **body)
            assert (refused.status_code, "context length" in refused.json()["error"]) == (400, True), refused.text
        assert [body["truncate"] for body in far.bodies] == [False] * 3
        assert {"system": "Be brief.", "context": [1, 2]}.items() <= far.bodies[1].items()
        options = {"num_gpu": 3, "mirostat": 2, "mirostat_tau": 4.5, "num_keep": 5, "num_predict": 9}
        fits = ask(server, "/api/generate", model="far", prompt="Hello", options=options, shift=False, keep_alive="1m")
        assert (fits.json()["response"], fits.headers.get("x-atrium-dropped")) == ("nothing", None)
        assert far.bodies[-1]["options"] == options
        assert (far.bodies[-1]["shift"], far.bodies[-1]["keep_alive"]) == (False, 60)


def test_as_usual_an_ollama_endpoint_is_relayed_what_it_was_sent(server: RunningServer) -> None:
    far = Endpoint("ollama", "far-usual", window=1000)
    with beside(server, far):
        answer = ask(server, "/api/chat", model="far-usual", messages=told(60), odd=1)
        assert answer.status_code == 200
        assert "x-atrium-truncated" not in answer.headers
        assert (far.bodies[-1]["odd"], "truncate" in far.bodies[-1]) == (1, False)


def test_an_endpoint_is_told_to_load_and_to_unload(server: RunningServer) -> None:
    far = Endpoint("ollama", "far", window=1000)
    with beside(server, far):
        for keep, reason in ((None, "load"), ("5m", "load"), (0, "unload")):
            for path in ("/api/chat", "/api/generate"):
                answer = ask(server, path, model="far", keep_alive=keep, options={"num_ctx": 700})
                assert (answer.status_code, answer.json()["done_reason"]) == (200, reason)
                assert far.bodies[-1]["options"] == {"num_ctx": 700}
                assert far.bodies[-1].get("keep_alive") == {None: None, "5m": 300, 0: 0}[keep]
