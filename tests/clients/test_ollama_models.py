"""Models in Ollama's words: listed, shown, made of one another, pulled and deleted. Contract `ollama.md`, section 6."""

from __future__ import annotations

import json
import re
from collections.abc import Generator
from typing import Any, cast

import ollama
import pytest

from tests.gateway.fakes import Fake, gateway
from tests.running import RunningServer

MORE = {"models": {"install_defaults": False, "allow_fake": True}}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningServer]:
    """A built-in model, and one of an endpoint that speaks only OpenAI's API."""
    with gateway(tmp_path_factory.mktemp("home"), [Fake("lab", "vllm", ("qwen",))], more=MORE) as server:
        client(server).pull("fake:parrot?words=5")
        yield server


def client(server: RunningServer) -> Any:
    return cast("Any", ollama.Client(server.url, headers={"Authorization": f"Bearer {server.key}"}))


@pytest.fixture
def sdk(home: RunningServer) -> Any:
    return client(home)


def names(sdk: Any) -> set[str]:
    return {model.model for model in sdk.list().models}


def test_tags_list_the_models_of_all_doors(home: RunningServer, sdk: Any) -> None:
    assert {"parrot:latest", "qwen:latest"} <= names(sdk)
    with home.client() as plain:
        for root in ("/api/tags", "/ollama/api/tags"):
            models = plain.get(root).json()["models"]
            for model in models:
                assert model["name"] == model["model"]
                assert re.fullmatch(r"[0-9a-f]{64}", model["digest"])
                assert model["details"]["families"] is not None
                assert model["capabilities"]
        assert plain.head("/api/tags").status_code == 200
        both = plain.get("/ollama/v1/models").json()
        assert [one["id"] for one in both["data"]]
        assert {one["name"] for one in both["models"]} == {model["name"] for model in models}
        assert "models" not in plain.get("/v1/models").json()


def test_show_tells_all_that_is_known(home: RunningServer, sdk: Any) -> None:
    shown = sdk.show("parrot")
    architecture = shown.modelinfo["general.architecture"]
    assert shown.modelinfo[f"{architecture}.context_length"] > 0
    assert "tools" in shown.capabilities
    assert shown.template
    remote = sdk.show("qwen")
    assert remote.modelinfo["general.architecture"]
    with home.client() as plain:
        assert plain.post("/api/show", json={"name": "parrot:latest"}).status_code == 200
        missing = plain.post("/api/show", json={"model": "nobody"})
        assert (missing.status_code, missing.json()["error"]) == (404, "model 'nobody' not found")


def test_a_loaded_model_is_listed_until_it_goes(sdk: Any) -> None:
    sdk.generate("parrot", keep_alive=-1)
    [row] = [one for one in sdk.ps().models if one.model == "parrot:latest"]
    assert row.expires_at.year > 2100
    assert (row.size_vram, row.context_length > 0) == (0, True)
    sdk.generate("parrot", keep_alive=0)
    assert "parrot:latest" not in {one.model for one in sdk.ps().models}


def loads(home: RunningServer, model: str) -> int:
    log = (home.data_dir.parent / "server.log").read_text()
    return sum('"runner.started"' in line and f'"{model}"' in line for line in log.splitlines())


def test_a_model_has_the_window_that_the_last_request_asked_for(home: RunningServer, sdk: Any) -> None:
    def window() -> int:
        [row] = [one for one in sdk.ps().models if one.model == "parrot:latest"]
        assert row.size > 0
        return row.context_length

    hi = [{"role": "user", "content": "hi"}]
    sdk.generate("parrot")
    usual, begun = window(), loads(home, "parrot")
    assert sdk.generate("parrot", options={"num_ctx": 700}, keep_alive="5m").done_reason == "load"
    assert (window(), loads(home, "parrot")) == (700, begun + 1)
    sdk.chat("parrot", hi, options={"num_ctx": 700})
    sdk.chat("parrot", [], options={"num_ctx": 700}, keep_alive=-1)
    assert (window(), loads(home, "parrot")) == (700, begun + 1), "what is there is not loaded anew"
    sdk.chat("parrot", hi, options={"num_ctx": 900})
    assert (window(), loads(home, "parrot")) == (900, begun + 2)
    sdk.chat("parrot", hi, options={"num_ctx": 1 << 30})
    assert window() == usual, "never more than it was made for"
    sdk.generate("parrot", options={"num_ctx": 900}, keep_alive=0)
    assert "parrot:latest" not in {one.model for one in sdk.ps().models}
    sdk.chat("parrot", hi)
    assert window() == usual
    with pytest.raises(ollama.ResponseError, match='option "num_ctx" must be of type integer'):
        sdk.generate("parrot", options={"num_ctx": "many"})


def test_options_that_are_of_no_use_here_are_named(home: RunningServer) -> None:
    options = {"num_gpu": 1, "num_thread": 2, "mirostat": 2, "mirostat_eta": 0.2, "top_k": 3, "num_predict": 2}
    dropped = "options.num_gpu, options.num_thread, options.mirostat, options.mirostat_eta"
    with home.client() as plain:
        for path, body in (("chat", {"messages": [{"role": "user", "content": "hi"}]}), ("generate", {"prompt": "hi"})):
            for more in ({}, {"raw": True}) if path == "generate" else ({},):
                asked = {"model": "parrot", "options": options, "stream": False, **body, **more}
                answer = plain.post(f"/api/{path}", json=asked)
                assert (answer.status_code, answer.headers["x-atrium-dropped"]) == (200, dropped)


def test_a_model_is_made_of_another_one(sdk: Any) -> None:
    lines = list(
        sdk.create(
            "mario",
            from_="parrot",
            system="You are Mario.",
            parameters={"temperature": 0.3, "num_ctx": 1024, "stop": ["END"]},
            messages=[{"role": "user", "content": "who?"}, {"role": "assistant", "content": "me"}],
            license="free",
            stream=True,
        )
    )
    assert lines[0].status.startswith("using existing layer sha256:")
    assert lines[-1].status == "success"
    shown = sdk.show("mario:latest")
    assert shown.details.parent_model == "parrot"
    assert shown.parameters.splitlines()[0].split() == ["num_ctx", "1024"]
    assert "0.3" in shown.parameters
    assert shown.license == "free"
    assert "You are Mario." in shown.modelfile
    longer = sdk.chat("mario", [{"role": "user", "content": "hi"}]).prompt_eval_count
    assert longer > sdk.chat("parrot", [{"role": "user", "content": "hi"}]).prompt_eval_count
    assert "mario:latest" in names(sdk)
    sdk.delete("mario")
    assert "mario:latest" not in names(sdk)


def test_a_model_may_have_a_template_in_ollamas_notation(sdk: Any) -> None:
    sdk.create("terse", from_="parrot", template="Q: {{ .Prompt }}")
    told = sdk.chat("terse", [{"role": "user", "content": "hi"}])
    assert told.prompt_eval_count == len("Q: hi")
    once = sdk.generate("parrot", "hi", template="{{ .Prompt }}!")
    assert once.prompt_eval_count == len("hi!")
    sdk.delete("terse")


def test_a_copy_stays_when_the_original_goes(sdk: Any) -> None:
    sdk.copy("parrot", "macaw")
    sdk.copy("macaw", "ara")
    sdk.delete("macaw")
    assert {"parrot:latest", "ara:latest"} <= names(sdk)
    assert sdk.chat("ara", [{"role": "user", "content": "hi"}]).message.content
    sdk.delete("ara")


def test_a_pull_tells_how_far_it_is(home: RunningServer, sdk: Any) -> None:
    statuses = [line.status for line in sdk.pull("fake:heron", stream=True)]
    assert statuses[0] == "pulling manifest"
    assert statuses[-2:] == ["writing manifest", "success"]
    assert sdk.pull("heron").status == "success"
    with home.client() as plain:
        missing = plain.post("/api/pull", json={"model": "nobody", "stream": False})
        assert missing.status_code == 404
        assert "file does not exist" in missing.json()["error"]
        lines = plain.post("/ollama/api/pull", json={"model": "nobody"}).text.splitlines()
        assert "file does not exist" in json.loads(lines[-1])["error"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("DELETE", "/api/delete", {"model": "nobody"}, 404),
        ("DELETE", "/api/delete", {"model": "qwen"}, 400),
        ("POST", "/api/copy", {"source": "nobody", "destination": "x"}, 404),
        ("POST", "/api/copy", {"source": "parrot"}, 400),
        ("POST", "/api/create", {"model": "x", "from": "parrot", "quantize": "q4_0", "stream": False}, 400),
        ("POST", "/api/create", {"model": "x", "stream": False}, 400),
        ("POST", "/api/create", {"model": "x", "from": "nobody", "stream": False}, 404),
        ("POST", "/api/create", {"model": "x", "from": "parrot", "template": "{{ .Tools }}"}, 400),
        ("POST", "/api/push", {"model": "parrot"}, 501),
    ],
)
def test_what_cannot_be_done_is_said(
    home: RunningServer, method: str, path: str, body: dict[str, Any], status: int
) -> None:
    with home.client() as plain:
        answer = plain.request(method, path, json=body)
    assert answer.status_code == status, answer.text
    assert isinstance(answer.json()["error"], str)


def test_blobs_are_known_by_their_digest(home: RunningServer, sdk: Any) -> None:
    with home.client() as plain:
        [digest] = [one["digest"] for one in plain.get("/api/tags").json()["models"] if one["name"] == "parrot:latest"]
        assert plain.head(f"/api/blobs/sha256:{digest}").status_code == 200
        assert plain.head(f"/ollama/api/blobs/sha256:{'0' * 64}").status_code == 404
        assert plain.post(f"/api/blobs/sha256:{digest}", content=b"x").status_code == 201


def test_a_key_for_some_models_neither_loads_nor_unloads_others(home: RunningServer) -> None:
    with home.client() as plain:
        wish = {"username": "admin", "alias": "narrow", "models": ["qwen"]}
        key = plain.post("/api/admin/keys", json=wish).json()["full_key"]
    with home.client(key=key) as plain:
        for path in ("/api/chat", "/ollama/api/generate"):
            for keep_alive in (None, 0, -1):
                refused = plain.post(path, json={"model": "parrot", "keep_alive": keep_alive})
                assert refused.status_code == 403
                assert refused.json()["error"].startswith("This key is not for the model 'parrot'")
        assert plain.post("/api/chat", json={"model": "qwen", "stream": False, "messages": []}).status_code == 200


def test_what_changes_models_is_written_down_with_its_name(home: RunningServer, sdk: Any) -> None:
    sdk.pull("fake:stork")
    sdk.copy("stork", "crane")
    sdk.create("egret", from_="stork", system="Fish.")
    for name in ("crane", "egret", "stork"):
        sdk.delete(name)
    with home.client() as plain:
        assert plain.post("/api/copy", json={"source": "nobody", "destination": "x"}).status_code == 404
        acts = plain.get("/api/admin/audit", params={"limit": 6}).json()
    assert [(act["action"], act["detail"]) for act in reversed(acts)] == [
        ("POST /api/pull", "model fake:stork"),
        ("POST /api/copy", "model stork as crane"),
        ("POST /api/create", "model egret of stork"),
        ("DELETE /api/delete", "model crane"),
        ("DELETE /api/delete", "model egret"),
        ("DELETE /api/delete", "model stork"),
    ]
    assert {(act["actor"], act["address"]) for act in acts} == {("admin", "127.0.0.1")}


def test_what_changes_an_endpoints_models_is_written_down_before(home: RunningServer) -> None:
    with home.client() as plain:
        passed_on = plain.request("DELETE", "/olla/proxy/api/delete", json={"model": "qwen"})
        assert passed_on.headers["x-olla-endpoint"] == "lab"
        [act] = plain.get("/api/admin/audit", params={"limit": 1}).json()
    assert (act["actor"], act["address"], act["action"]) == ("admin", "127.0.0.1", "DELETE /olla/proxy/api/delete")


def test_only_administrators_change_models(home: RunningServer) -> None:
    with home.client() as plain:
        plain.post("/api/admin/users", json={"username": "ann"})
        key = plain.post("/api/admin/keys", json={"username": "ann", "alias": "a"}).json()["full_key"]
    with home.client(key=key) as plain:
        for path in ("pull", "push", "create", "copy"):
            for root in ("/api", "/ollama/api"):
                answer = plain.post(f"{root}/{path}", json={"model": "parrot"})
                assert answer.status_code == 403, path
                assert isinstance(answer.json()["error"], str)
        for path in ("/api/delete", "/ollama/api/delete", "/olla/proxy/api/delete", "/olla/proxy//api/%64elete/"):
            assert plain.request("DELETE", path, json={"model": "parrot"}).status_code == 403
        for path in ("/api/blobs/sha256:", "/ollama/api/blobs/sha256:", "/olla/proxy/api/blobs/sha256:"):
            assert plain.post(path + "0" * 64, content=b"x").status_code == 403
        assert plain.get("/api/tags").status_code == 200
