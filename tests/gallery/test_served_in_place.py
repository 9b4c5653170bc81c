"""A file served from where it lies, by the program as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.gallery.tiny import write_llama
from tests.running import RunningServer, command


def test_a_file_is_adopted_set_up_shown_asked_and_let_go(server: RunningServer, tmp_path: Path) -> None:
    path = write_llama(tmp_path / "Tiny One.gguf")
    adopted = command(server.data_dir, "models", "adopt", str(path), "--name", "org/tiny:one")
    assert adopted.returncode == 0, adopted.stderr
    config = server.data_dir / "models" / "org%2Ftiny:one.yaml"
    config.write_text(f"file: {path}\nsystem: Be brief.\nparameters:\n  max_tokens: 3\ncontext: 300\nslots: 1\n")
    with server.client() as client:
        assert client.post("/api/admin/models/rescan").raise_for_status().json()["problems"] == {}
        answer = client.post(
            "/v1/chat/completions",
            json={"model": "org/tiny:one", "messages": [{"role": "user", "content": "Hello"}], "seed": 1},
        ).raise_for_status()
        assert answer.json()["usage"]["completion_tokens"] == 3
        assert answer.json()["usage"]["prompt_tokens"] > len("systemBe brief.userHello")
    told = json.loads(command(server.data_dir, "models", "show", "org/tiny:one", "--json").stdout)
    assert told["config"]["sampling"] == {"max_tokens": 3}
    assert told["origins"]["max_tokens"] == "org%2Ftiny:one.yaml:4"
    assert told["plan"]["slots"] == 1
    assert told["template_from"] == "the model's file"
    page = command(server.data_dir, "models", "show", "org/tiny:one")
    assert "Be brief." in page.stdout
    gone = command(server.data_dir, "models", "delete", "org/tiny:one")
    assert gone.returncode == 0, gone.stderr
    assert path.exists()
    assert not config.exists()


def test_what_is_no_model_is_not_adopted(server: RunningServer, tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF nonsense")
    refused = command(server.data_dir, "models", "adopt", str(tmp_path / "bad.gguf"))
    assert refused.returncode == 1
    assert "cannot be used" in refused.stderr
    missing = command(server.data_dir, "models", "adopt", str(tmp_path / "nowhere.gguf"))
    assert missing.returncode == 1
    assert "no file" in missing.stderr
    assert not list((server.data_dir / "models").glob("*.yaml"))
