"""Every curl line of the LoLLMs API document, as it stands but for address, key and what only its reader has."""

from __future__ import annotations

import base64
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.lollms.endpoints import Endpoint
from tests.running import RunningServer

LINES = {
    "databases": """curl http://localhost:9642/lollms/v1/rag/databases \\
-H "Authorization: Bearer lollms_xxxx_xxxx" """,
    "query": """curl http://localhost:9642/lollms/v1/rag/query \\
-H "Authorization: Bearer lollms_xxxx_xxxx" \\
-H "Content-Type: application/json" \\
-d '{
"datastore_id": "550e8400-e29b-41d4-a716-446655440000",
"query": "What is the company vacation policy?",
"top_k": 3,
"min_similarity": 60.0
}'""",
    "tokenize": """curl http://localhost:9642/lollms/v1/tokenize \\
-H "Authorization: Bearer lollms_xxxx_xxxx" \\
-H "Content-Type: application/json" \\
-d '{
"model": "ollama/llama3",
"text": "Hello, how are you today?"
}'""",
    "speech": """curl http://localhost:9642/lollms/v1/audio/speech \\
-H "Authorization: Bearer lollms_xxxx_xxxx" \\
-H "Content-Type: application/json" \\
-d '{
"input": "Welcome to LoLLMs, the Lord of Large Language and Multimodal Systems!",
"voice": "alloy",
"response_format": "mp3"
}' \\
--output welcome.mp3""",
    "cloning": """# First, encode your voice sample to base64 (e.g., a 10-30 second WAV file)
VOICE_SAMPLE=$(base64 -w 0 /path/to/your_voice_sample.wav)
curl http://localhost:9642/lollms/v1/audio/speech \\
-H "Authorization: Bearer lollms_xxxx_xxxx" \\
-H "Content-Type: application/json" \\
-d "{
\\"input\\": \\"Hello, this is my cloned voice speaking!\\",
\\"audio_sample\\": \\"$VOICE_SAMPLE\\",
\\"response_format\\": \\"wav\\"
}" \\
--output cloned_speech.wav""",
    "voices": """curl http://localhost:9642/lollms/v1/audio/voices \\
-H "Authorization: Bearer lollms_xxxx_xxxx" """,
}


@dataclass(frozen=True)
class Shell:
    server: RunningServer
    folder: Path

    def run(self, line: str, **replaced: str) -> tuple[int, Any]:
        """Status and JSON body of a line of the document."""
        replaced |= {"http://localhost:9642": self.server.url, "lollms_xxxx_xxxx": self.server.key}
        for shown, real in replaced.items():
            line = line.replace(shown, real)
        script = line.rstrip() + ' -s -w "%{stderr}%{http_code}"'
        done = subprocess.run(
            ["bash", "-c", script], capture_output=True, text=True, cwd=self.folder, timeout=60, check=True
        )
        written = [path for path in self.folder.iterdir() if path.suffix in (".mp3", ".wav")]
        body = written[0].read_text() if written else done.stdout
        return int(done.stderr), json.loads(body)


@pytest.fixture
def shell(server: RunningServer, tmp_path: Path) -> Shell:
    return Shell(server, tmp_path)


def test_databases_are_listed(shell: Shell) -> None:
    status, told = shell.run(LINES["databases"])
    assert status == 200
    assert told["object"] == "list"
    assert isinstance(told["data"], list)


def test_a_store_that_is_not_there_is_not_found_and_one_that_is_answers(shell: Shell) -> None:
    status, told = shell.run(LINES["query"])
    assert status == 404
    assert told["detail"] == told["error"]["message"]
    with shell.server.client() as client:
        made = client.post("/lollms/v1/rag/databases", json={"name": "policies"}).json()
        document = {"filename": "handbook.md", "text": "The company vacation policy: 25 days a year."}
        client.post(f"/lollms/v1/rag/databases/{made['id']}/documents", json={"documents": [document]})
        status, found = shell.run(LINES["query"], **{"550e8400-e29b-41d4-a716-446655440000": made["id"]})
        client.delete(f"/lollms/v1/rag/databases/{made['id']}")
    assert status == 200
    assert [one["file_path"] for one in found] == ["handbook.md"]
    assert found[0]["similarity_percent"] >= 60.0


def test_tokens_of_an_ollama_model(shell: Shell, named: Endpoint) -> None:
    status, told = shell.run(LINES["tokenize"])
    assert status == 200
    assert told["count"] == len(told["tokens"]) > 0
    assert told["exact"] is False


@pytest.mark.parametrize("name", ["speech", "cloning", "voices"])
def test_speech_says_which_engine_is_missing(shell: Shell, name: str) -> None:
    sample = shell.folder / "sample"
    sample.write_bytes(base64.b64decode("UklGRiQAAABXQVZF"))
    status, told = shell.run(LINES[name], **{"/path/to/your_voice_sample.wav": str(sample)})
    assert status == 501
    assert told["error"]["code"] == "engine_missing"
    assert told["detail"] == told["error"]["message"]


PAYLOADS = {
    "tokenize": '{"model": "binding/model", "text": "Hello world"}',
    "detokenize": '{"model": "binding/model", "tokens": [1, 2, 3]}',
    "audio/speech": '{"input": "Hello, this is a test", "voice": "alloy", "model": "binding/model", '
    '"response_format": "mp3", "speed": 1.0, "language": "en"}',
    "long_context_process": '{"text": "...", "prompt": "Summarize this entire 500-page document", '
    '"max_generation_tokens": 4096}',
    "rag/query": '{"datastore_id": "uuid", "query": "What are our Q3 targets?", "top_k": 5}',
    "images/edit": '{"image": "base64_data", "prompt": "Change the cat to a tiger", "mask": "optional_base64_mask"}',
}
"""What the document shows to be sent to each service."""
ENGINES = {"audio/speech": "speech", "images/edit": "image"}


@pytest.mark.parametrize("path", PAYLOADS)
def test_what_the_document_sends_is_understood(server: RunningServer, path: str) -> None:
    payload = PAYLOADS[path].replace("binding/model", "local/smollm2-135m-instruct").replace("4096", "8")
    with server.client(timeout=300) as client:
        answer = client.post(f"/lollms/v1/{path}", content=payload, headers={"content-type": "application/json"})
    if engine := ENGINES.get(path):
        assert (answer.status_code, answer.json()["error"]["code"]) == (501, "engine_missing")
        assert f"No {engine} engine" in answer.json()["detail"]
    elif path == "rag/query":
        assert (answer.status_code, answer.json()["error"]["param"]) == (404, "datastore_id")
    else:
        assert answer.status_code == 200, answer.text
        assert {"tokens", "text", "result"} & answer.json().keys()
