"""`lollms_client` as it is installed, with its `lollms`, `ollama` and `openai` bindings. Contract, section 12."""

from __future__ import annotations

import base64
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.running import RunningServer

CHAT, EMBEDDING = "smollm2-135m-instruct", "all-minilm-l6-v2"
Make = Callable[..., Any]


@pytest.fixture(scope="module")
def client_library() -> Any:
    return importlib.import_module("lollms_client")


@pytest.fixture
def binding(server: RunningServer, client_library: Any) -> Make:
    """The client's own object for one binding, set up as its users do."""

    def made(name: str, path: str = "", **more: object) -> Any:
        config = {"host_address": server.url + path, "service_key": server.key, **more}
        return client_library.LollmsClient(llm_binding_name=name, llm_binding_config=config).llm

    return made


@pytest.fixture
def lollms(binding: Make) -> Any:
    return binding("lollms")


@pytest.mark.parametrize("path", ["", "/v1", "/lollms/v1", "/"])
def test_a_chat_model_is_found_whatever_the_address_ends_in(binding: Make, path: str) -> None:
    found = binding("lollms", path)
    assert found.model_name == CHAT
    assert {model["model_name"] for model in found.list_models()} >= {CHAT, EMBEDDING}


def test_a_text_is_generated_whole_and_streamed(lollms: Any) -> None:
    whole = lollms.generate_text("Say hello.", n_predict=8, temperature=0.0, top_k=5, repeat_penalty=1.1, seed=3)
    assert isinstance(whole, str)
    assert whole
    pieces: list[str] = []

    def hear(piece: str, _: object) -> bool:
        pieces.append(piece)
        return True

    streamed = lollms.generate_text(
        "Say hello.", n_predict=8, temperature=0.0, seed=3, stream=True, streaming_callback=hear
    )
    assert isinstance(streamed, str)
    assert "".join(pieces).strip() == streamed.strip()


def test_nothing_that_the_client_sends_is_refused(lollms: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    statuses: list[int] = []
    send = lollms._http_client.send

    def counted(*parts: Any, **more: Any) -> Any:
        answer = send(*parts, **more)
        statuses.append(answer.status_code)
        return answer

    monkeypatch.setattr(lollms._http_client, "send", counted)
    assert lollms.check_is_vllm()
    for thinking in ({}, {"think": True, "reasoning_effort": "low"}):
        assert isinstance(lollms.generate_text("One word.", system_prompt="Be brief.", n_predict=4, **thinking), str)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "One word."}]
    assert isinstance(lollms.generate_from_messages(messages, n_predict=4), str)
    assert statuses == [200, 200, 200]


def test_embeddings_are_those_of_the_text(lollms: Any, server: RunningServer) -> None:
    texts = ["  Vögel singen im März. 👩🏽\u200d🚀", "<|im_start|> is text"]
    vectors = lollms.embed(texts)
    with server.client() as client:
        direct = client.post("/v1/embeddings", json={"model": EMBEDDING, "input": texts}).json()["data"]
    assert len(vectors) == 2
    for vector, one in zip(vectors, direct, strict=True):
        assert sum(a * b for a, b in zip(vector, one["embedding"], strict=True)) > 0.999
    assert len(lollms.embed("one text")) == 384


def test_tokens_and_the_window_come_from_the_server(lollms: Any) -> None:
    text = "Tokens 日本 <|im_end|> \r\n"
    tokens = lollms.tokenize(text)
    assert lollms.detokenize(tokens) == text
    assert lollms.count_tokens(text) == len(tokens)
    assert lollms._remote_tokenizer_healthy
    assert lollms._get_ctx_size() == 8192


def test_a_long_text_is_worked_through(lollms: Any) -> None:
    assert lollms.long_context_process("The bread is warm. " * 20, None, max_generation_tokens=8).strip()


def test_listings(lollms: Any) -> None:
    assert {"tokenize", "long_context_processing"} <= set(lollms.get_capabilities()["capabilities"])
    assert lollms.list_models_by_type("llm")[0]["model_name"] == CHAT
    assert lollms.list_models_by_type("tts") == []
    assert lollms.list_models_by_type("llm", "nobody") == []
    assert lollms.tts_list_voices() == []
    assert lollms.lollms_listMountedPersonalities() is not None


def test_speech_is_missing_and_said_so(lollms: Any) -> None:
    with pytest.raises(requests.HTTPError) as refused:
        lollms.tts_generate("Hello")
    answer: Any = refused.value.response
    assert answer.status_code == 501
    assert answer.json()["detail"]


def test_a_store_is_listed_and_asked(lollms: Any, server: RunningServer) -> None:
    with server.client() as client:
        made = client.post("/lollms/v1/rag/databases", json={"name": "of the client"}).json()
        document = {"filename": "a.md", "text": "Vacation is 25 days a year."}
        client.post(f"/lollms/v1/rag/databases/{made['id']}/documents", json={"documents": [document]})
        assert made["id"] in {one["id"] for one in lollms.rag_list_databases()}
        found = lollms.rag_query(made["id"], "How many days of vacation?", top_k=3, min_similarity=0.0)
        assert isinstance(found, list)
        assert "25 days" in found[0]["chunk_text"]
        client.delete(f"/lollms/v1/rag/databases/{made['id']}")


def test_text_is_extracted(lollms: Any) -> None:
    assert lollms.extract_text(base64.b64encode(b"# Title\n\nText.").decode(), "a.md").strip().endswith("Text.")


@pytest.fixture
def ollama(binding: Make) -> Any:
    return binding("ollama", model_name=CHAT)


def test_the_ollama_binding_generates_and_embeds(ollama: Any) -> None:
    assert isinstance(ollama.generate_text("Say hello.", n_predict=8, temperature=0.0, think=False), str)
    assert len(ollama.embed("one text", model=EMBEDDING)) == 384


def test_the_ollama_binding_streams_and_goes_on_with_a_conversation(ollama: Any) -> None:
    pieces: list[str] = []

    def hear(piece: str, _: object) -> bool:
        pieces.append(piece)
        return True

    said = ollama.generate_text("Say hello.", n_predict=8, temperature=0.0, stream=True, streaming_callback=hear)
    assert said.strip() == "".join(pieces).strip()
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "One word."}]
    assert isinstance(ollama.generate_from_messages(messages, n_predict=4), str)


def test_the_ollama_binding_lists_loads_and_unloads(ollama: Any) -> None:
    listed = {model["model_name"]: model["created_datetime"] for model in ollama.list_models()}
    assert listed.keys() >= {f"{CHAT}:latest", f"{EMBEDDING}:latest"}
    assert all(moment.year > 2020 for moment in listed.values())
    ollama.generate_text("Hello.", n_predict=1)
    [row] = [one for one in ollama.ps() if one["model_name"] == f"{CHAT}:latest"]
    assert (row["vram_size"], row["gpu_usage_percent"], row["cpu_usage_percent"]) == (0, 0, 100)
    assert row["size"] > 0
    assert row["parameters_size"]
    assert row["quantization_level"]
    assert ollama.unload_model() is True
    assert f"{CHAT}:latest" not in {one["model_name"] for one in ollama.ps()}
    assert ollama.unload_model("nobody") is False


def test_the_ollama_binding_learns_what_a_model_can(ollama: Any) -> None:
    assert ollama._get_ctx_size() > 0
    assert not ollama.supports_vision
    assert ollama.get_model_info()["model_name"] == CHAT
    steps: list[Any] = []
    assert ollama.pull_model(CHAT, steps.append)["status"] is True
    assert steps[-1]["status"] == "success"
    assert ollama.pull_model("nobody")["status"] is False
    with pytest.raises(RuntimeError, match="model 'bge-m3' not found"):
        ollama.embed("of the model that it takes unless told otherwise")


def test_sound_is_sent_to_both_places_and_said_to_be_missing(lollms: Any, tmp_path: Path) -> None:
    sound = tmp_path / "a.wav"
    sound.write_bytes(b"RIFF")
    lollms.client = lollms.client.with_options(max_retries=0)
    with pytest.raises(requests.HTTPError) as refused:
        lollms.transcribe_audio(sound)
    answer: Any = refused.value.response
    assert (answer.status_code, answer.request.path_url) == (501, "/lollms/v1/audio/transcriptions")


def test_the_lollms_binding_takes_another_model(lollms: Any) -> None:
    assert lollms.load_model(CHAT)
    assert {one["model_name"] for one in lollms.ps()} >= {CHAT, EMBEDDING}
    assert lollms.get_model_info()["model_name"] == CHAT


def test_the_openai_binding_streams_and_goes_on_with_a_conversation(binding: Make) -> None:
    openai = binding("openai", "/v1", model_name=CHAT)
    pieces: list[str] = []

    def hear(piece: str, _: object) -> bool:
        pieces.append(piece)
        return True

    said = openai.generate_text("Say hello.", n_predict=8, temperature=0.0, stream=True, streaming_callback=hear)
    assert said.strip() == "".join(pieces).strip()
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "One word."}]
    assert isinstance(openai.generate_from_messages(messages, n_predict=4), str)


def test_the_openai_binding_generates(binding: Make) -> None:
    openai = binding("openai", "/v1", model_name=CHAT)
    assert isinstance(openai.generate_text("Say hello.", n_predict=8, temperature=0.0), str)
    assert {model["model_name"] for model in openai.list_models()} >= {CHAT}
