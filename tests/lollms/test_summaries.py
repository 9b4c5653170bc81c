"""A chat that outgrew its window goes on with a summary of its older turns. The fake's tokens are bytes."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from tests.lollms.conftest import beside
from tests.lollms.endpoints import Endpoint
from tests.running import RunningServer, running

WINDOW = 3000
FAKES = {"ATRIUM_MODELS__INSTALL_DEFAULTS": "false", "ATRIUM_MODELS__ALLOW_FAKE": "true"}


@pytest.fixture(scope="module")
def fakes(tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningServer]:
    """One model that summarises unasked, one that has to be asked, and one too small for it."""
    folder = tmp_path_factory.mktemp("summaries")
    config = folder / "atrium.yaml"
    config.write_text("models:\n  context_policies: {patient: summarize, faraway: summarize}\n")
    windows = {"patient": WINDOW, "strict": WINDOW, "tiny": 600}
    with running(folder / "data", "--config", str(config), **FAKES) as server:
        server.install(*(f"fake:{name}?context={window}&words=5" for name, window in windows.items()))
        (folder / "data" / "models" / "own.yaml").write_text("base: strict\ncontext_policy: summarize\n")
        with server.client() as client:
            assert client.post("/api/admin/models/rescan").json()["problems"] == {}
        yield server


def told(turns: int) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = [{"role": "system", "content": "Be brief."}]
    for number in range(turns):
        messages += [{"role": "user", "content": f"{number:03}" + "?" * 97}, {"role": "assistant", "content": "Yes."}]
    return [*messages, {"role": "user", "content": "And now?"}]


def ask(server: RunningServer, headers: dict[str, str] | None = None, **body: Any) -> Any:
    with server.client() as client:
        return client.post("/v1/chat/completions", json={"max_tokens": 50, **body}, headers=headers)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "headers"),
    [("patient", {}), ("own", {}), ("strict", {"X-Atrium-Truncate": "summarize"})],
    ids=["policy", "the model's own file", "header"],
)
def test_older_turns_become_a_summary_and_the_answer_says_how_many(
    fakes: RunningServer, model: str, headers: dict[str, str], stream: bool
) -> None:
    answer = ask(fakes, headers, model=model, messages=told(60), stream=stream)
    assert answer.status_code == 200, answer.text
    gone = int(answer.headers["x-atrium-truncated"])
    assert 1 <= gone < 60
    if not stream:
        used = answer.json()["usage"]["prompt_tokens"]
        kept = [told(60)[0], *told(60)[1 + 2 * gone :]]
        without = ask(fakes, model=model, messages=kept).json()["usage"]["prompt_tokens"]
        assert without < used <= WINDOW - 50, "the summary stands beside the turns that stayed"


def test_what_fits_is_not_summarised(fakes: RunningServer) -> None:
    answer = ask(fakes, model="patient", messages=told(3))
    assert answer.status_code == 200
    assert "x-atrium-truncated" not in answer.headers


def test_what_cannot_be_summarised_is_refused_as_too_long(fakes: RunningServer) -> None:
    ask_for = {"X-Atrium-Truncate": "summarize"}
    for model, messages in (("tiny", told(20)), ("strict", [{"role": "user", "content": "!" * 2 * WINDOW}])):
        refused = ask(fakes, ask_for, model=model, messages=messages)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")
        assert refused.json()["error"]["param"] == "messages"


def test_without_being_asked_for_nothing_is_summarised(fakes: RunningServer) -> None:
    refused = ask(fakes, model="strict", messages=told(60))
    assert refused.json()["error"]["code"] == "context_length_exceeded"


def test_an_endpoints_model_has_its_policy_by_name(fakes: RunningServer) -> None:
    endpoint = Endpoint("openai", "faraway", more={"context": 2048}, reply=lambda _: "yes")
    with beside(fakes, endpoint):
        assert "x-atrium-truncated" not in ask(fakes, model="faraway", messages=told(3)).headers
        answer = ask(fakes, model="faraway", messages=told(60))
    assert answer.status_code == 200, answer.text
    assert int(answer.headers["x-atrium-truncated"]) >= 1
    assert "Summary of the conversation so far" in endpoint.prompts[-1]
