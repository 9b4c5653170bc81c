"""Models made of files that the official Ollama SDK sends. Contract `ollama.md`, section 6."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import ollama
import pytest

from tests.gallery.tiny import write_llama
from tests.gateway.fakes import gateway
from tests.running import RunningServer

MORE = {"models": {"install_defaults": False, "sent_size": "2MB"}}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningServer]:
    with gateway(tmp_path_factory.mktemp("home"), [], more=MORE) as server:
        yield server


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("weights") / "tiny.gguf")


@pytest.fixture(params=["", "/ollama"], ids=["root", "ollama"])
def sdk(home: RunningServer, request: pytest.FixtureRequest) -> Any:
    headers = {"Authorization": f"Bearer {home.key}"}
    return cast("Any", ollama.Client(f"{home.url}{request.param}", headers=headers))


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def sent(home: RunningServer) -> list[str]:
    """What of clients lies among what is temporary."""
    return [path.name for path in (home.data_dir / "tmp").iterdir() if path.name.startswith("sent-")]


def test_a_sent_file_becomes_a_model_that_answers(home: RunningServer, sdk: Any, weights: Path) -> None:
    digest = sdk.create_blob(weights)
    lines = list(
        sdk.create("mine", files={"tiny.gguf": digest}, system="Be kind.", parameters={"num_ctx": 256}, stream=True)
    )
    assert [line.status for line in lines][-2:] == ["writing manifest", "success"]
    shown = sdk.show("mine")
    assert shown.modelinfo["general.architecture"] == "llama"
    assert shown.parameters.split() == ["num_ctx", "256"]
    told = sdk.chat("mine", [{"role": "user", "content": "hi"}], options={"num_predict": 1})
    assert (told.eval_count, told.done_reason) == (1, "length")
    # A second model of the same file needs it no second time.
    sdk.create("twin", files={"other.gguf": digest})
    assert {"mine:latest", "twin:latest"} == {model.model for model in sdk.list().models}
    sdk.delete("mine")
    assert sdk.generate("twin", "hi", options={"num_predict": 1}).eval_count == 1
    sdk.delete("twin")


@contextmanager
def served(handler: Callable[..., BaseHTTPRequestHandler]) -> Generator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def shop(folder: Path) -> Generator[tuple[str, list[str]]]:
    """A web server with the files of a folder, and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002, ARG002 - the library's
            asked.append(self.path)

    with served(partial(Handler, directory=str(folder))) as url:
        yield url, asked


def test_a_file_is_pulled_from_its_address_once(home: RunningServer, sdk: Any, weights: Path, tmp_path: Path) -> None:
    (tmp_path / "far.gguf").write_bytes(weights.read_bytes())
    digest = digest_of(weights.read_bytes())
    with shop(tmp_path) as (url, asked):
        lines = list(sdk.pull(f"{url}/far.gguf?download=true", stream=True))
        assert lines[0].status == "pulling manifest"
        assert [line.status for line in lines][-3:] == ["verifying sha256 digest", "writing manifest", "success"]
        counted = [line for line in lines if line.completed]
        assert (counted[-1].digest, counted[-1].total) == (digest, weights.stat().st_size)
        assert counted[-1].status == f"pulling {digest[7:19]}"
        assert sdk.pull(f"{url}/far.gguf").status == "success"
        assert len(asked) == 1, "what is here is not fetched again"
        with pytest.raises(ollama.ResponseError, match="has no such file"):
            sdk.pull(f"{url}/nowhere.gguf")
        with pytest.raises(ollama.ResponseError, match="Only GGUF files"):
            list(sdk.pull(f"{url}/far.bin", stream=True))
    assert sdk.chat("far", [{"role": "user", "content": "hi"}], options={"num_predict": 1}).eval_count == 1
    sdk.delete("far")


def test_a_pull_that_its_client_has_left_is_given_up(home: RunningServer) -> None:
    left = threading.Event()

    class Endless(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", str(1 << 30))
            self.end_headers()
            self.wfile.write(b"GGUF" + bytes(2 << 20))
            self.rfile.read(1)
            left.set()

        def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002 - the library's name

    with served(Endless) as url, home.client() as plain:
        with plain.stream("POST", "/api/pull", json={"model": f"{url}/endless.gguf"}) as answer:
            lines = answer.iter_lines()
            assert json.loads(next(lines)) == {"status": "pulling manifest"}
            assert "pulling" in json.loads(next(lines))["status"]
        assert left.wait(30)


def test_long_entries_of_a_file_are_told_to_who_asks_for_all(home: RunningServer, sdk: Any, weights: Path) -> None:
    sdk.create("wordy", files={"tiny.gguf": sdk.create_blob(weights)})
    with home.client() as plain:
        short = plain.post("/api/show", json={"model": "wordy"}).json()["model_info"]
        long = plain.post("/api/show", json={"model": "wordy", "verbose": True}).json()["model_info"]
    assert short["tokenizer.ggml.tokens"] is None
    assert "<|im_end|>" in long["tokenizer.ggml.tokens"]
    assert len(long["tokenizer.ggml.token_type"]) == len(long["tokenizer.ggml.tokens"])
    sdk.delete("wordy")


def test_a_file_of_another_digest_is_refused_and_not_kept(home: RunningServer) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"not "
        yield b"it"

    with home.client() as plain:
        before = sent(home)
        wrong = plain.post(f"/api/blobs/{digest_of(b'it')}", content=pieces())
        assert (wrong.status_code, "digest mismatch" in wrong.json()["error"]) == (400, True)
        assert plain.head(f"/api/blobs/{digest_of(b'it')}").status_code == 404
        assert plain.post("/api/blobs/sha256:12", content=b"it").status_code == 400
        for size in (2 * 1024**2 + 1, 3 * 1024**2):
            large = b"x" * size
            for content in (large, iter([large])):
                answer = plain.post(f"/api/blobs/{digest_of(large)}", content=content)
                assert answer.status_code == 413, answer.text
        assert sent(home) == before


def test_what_is_no_model_makes_none(home: RunningServer) -> None:
    with home.client() as plain:
        junk = b"GGUF" + bytes(64)
        assert plain.post(f"/api/blobs/{digest_of(junk)}", content=junk).status_code == 201
        body = {"model": "junk", "files": {"junk.gguf": digest_of(junk)}}
        lines = [json.loads(line) for line in plain.post("/api/create", json=body).text.splitlines()]
        assert "cannot be used" in lines[-1]["error"]
        assert plain.get("/api/tags").json()["models"] == []


@pytest.mark.parametrize(
    ("more", "status", "said"),
    [
        ({"files": {"a.gguf": digest_of(b"")}}, 404, "There is no file sha256:"),
        ({"files": {"a.gguf": "md5:1"}}, 400, "invalid digest"),
        ({"files": {"model.safetensors": digest_of(b"")}}, 400, "only GGUF files are taken"),
        ({"files": {"a.gguf": digest_of(b"a"), "b.gguf": digest_of(b"b")}}, 400, "names 2 files"),
        ({"files": {"a.gguf": digest_of(b"a")}, "from": "x"}, 400, "either 'from'"),
        ({"files": "a.gguf"}, 400, "'files' must be an object"),
        ({"from": "x", "adapters": {"a.gguf": digest_of(b"a")}}, 400, "'adapters' is not taken"),
        ({"from": "x", "quantize": "q4_K_M"}, 400, "llama-quantize"),
        ({"from": "x", "modelfile": "FROM x"}, 400, "'modelfile' is not taken"),
        ({"from": "x", "parameters": {"temperature": "hot"}}, 400, 'option "temperature"'),
        ({"from": "x", "messages": [{"role": "pirate", "content": "a"}]}, 400, "messages[0].role"),
        ({"from": "x", "template": "{{ .Nonsense }}"}, 400, "is not understood"),
        ({"from": "x", "system": 3}, 400, "'system' must be a string"),
    ],
)
def test_what_cannot_be_made_is_refused_by_its_field_with_what_to_do(
    home: RunningServer, more: dict[str, Any], status: int, said: str
) -> None:
    with home.client() as plain:
        answer = plain.post("/api/create", json={"model": "x", "stream": False, **more})
    assert answer.status_code == status, answer.text
    assert said in answer.json()["error"]
