"""Tokens: lossless, without a loaded model, and clean refusals. Contract `lollms.md`, section 6."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx2
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atrium.core.errors import EngineFailed
from atrium.core.models import ModelCard
from atrium.engines.vocabularies import TokenBounds, Vocabularies
from tests.lollms.endpoints import Endpoint
from tests.running import RunningServer, environment
from tests.weights import smollm2_card

MODEL = "smollm2-135m-instruct"
TEXTS = [
    "Hello, how are you today?",
    "  two blanks, a\ttab,\r\nand\n\n\nlines ",
    "<|im_start|>system\nNo control token.<|im_end|><|endoftext|>",
    "日本語のテキスト、中文，한국어",
    "مرحبا بالعالم \u200f שלום עולם",
    "e\u0301 a\u0308 \u0928\u092e\u0938\u094d\u0924\u0947 \u1e69\u0323",
    "👩🏽\u200d🚀 👨\u200d👩\u200d👧\u200d👦 🇩🇪 ✌🏿",
    "\x00\x01\x04\x06\x13\x14\x16\x1d\x7f\x85\ufeff\ufffd",
    "\U00040000\U000a0000\U000f1234\U0010ffff",
]


def tokenize(client: httpx2.Client, text: str, model: str | None = MODEL, prefix: str = "/lollms/v1") -> list[int]:
    answer = client.post(f"{prefix}/tokenize", json={"model": model, "text": text})
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["count"] == len(told["tokens"])
    assert "exact" not in told
    return told["tokens"]


def detokenize(client: httpx2.Client, tokens: list[int]) -> str:
    answer = client.post("/lollms/v1/detokenize", json={"model": MODEL, "tokens": tokens})
    assert answer.status_code == 200, answer.text
    return answer.json()["text"]


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_every_text_comes_back(client: httpx2.Client, text: str) -> None:
    tokens = tokenize(client, text)
    assert detokenize(client, tokens) == text
    counted = client.post("/lollms/v1/count_tokens", json={"model": MODEL, "text": text})
    assert counted.json() == {"count": len(tokens)}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_text_comes_back(client: httpx2.Client, text: str) -> None:
    assert detokenize(client, tokenize(client, text)) == text


def test_tokens_are_the_models_own(client: httpx2.Client) -> None:
    tokens = tokenize(client, "Hello world")
    prompt = client.post("/v1/completions", json={"model": MODEL, "prompt": tokens, "max_tokens": 1, "echo": True})
    assert prompt.json()["usage"]["prompt_tokens"] == len(tokens)
    assert tokenize(client, "<|im_start|>") != [1]
    assert detokenize(client, [1]) == "<|im_start|>"


def test_empty_is_empty_and_no_model_is_the_default(client: httpx2.Client) -> None:
    assert tokenize(client, "") == []
    assert detokenize(client, []) == ""
    assert (
        tokenize(client, "Hello", None) == tokenize(client, "Hello", "") == tokenize(client, "Hello", f"local/{MODEL}")
    )
    assert tokenize(client, "Hello", prefix="/v1") == tokenize(client, "Hello")


def test_half_a_character_is_a_replacement_character(client: httpx2.Client) -> None:
    tokens = tokenize(client, "\U0010ffff")
    assert detokenize(client, tokens[:-1]).strip("\ufffd") == ""


@pytest.mark.parametrize(
    "tokens", [[-1], [2**31], [2**70], [49_152], [1_000_000], [1.5], ["1"], [None], [True], "1", {"a": 1}, None, [[1]]]
)
def test_ids_that_are_none_are_refused(client: httpx2.Client, tokens: object) -> None:
    answer = client.post("/lollms/v1/detokenize", json={"model": MODEL, "tokens": tokens})
    assert answer.status_code in (400, 422)
    assert answer.json()["error"]["param"] == "tokens"
    assert answer.json()["detail"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"text": 1}', b'{"text": "\\ud800"}', b"{}"]
)
@pytest.mark.parametrize("path", ["tokenize", "count_tokens", "detokenize"])
def test_malformed_bodies_are_refused_by_name(client: httpx2.Client, body: bytes, path: str) -> None:
    for prefix, statuses in (("/lollms/v1", (400, 422)), ("/v1", (400,))):
        answer = client.post(f"{prefix}/{path}", content=body, headers={"content-type": "application/json"})
        assert answer.status_code in statuses, answer.text
        assert answer.json()["error"]["type"] == "invalid_request_error"


def test_an_unknown_model_is_not_found(client: httpx2.Client) -> None:
    for path, body in (("tokenize", {"text": "a"}), ("detokenize", {"tokens": [1]}), ("context_size", {})):
        answer = client.post(f"/lollms/v1/{path}", json={"model": "nobody/nothing", **body})
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "model_not_found"


def test_fifty_megabytes_are_too_much_and_one_is_not(client: httpx2.Client) -> None:
    answer = client.post("/lollms/v1/tokenize", json={"model": MODEL, "text": "word " * 10_000_000})
    assert answer.status_code == 413
    assert answer.json()["error"]["param"] == "text"
    chance = random.Random(7)  # noqa: S311 - a text, no secret
    text = " ".join(chance.choice(["light", "of", "every", "house;", "falls", "on", "Übung"]) for _ in range(190_000))
    assert detokenize(client, tokenize(client, text)) == text


def test_one_run_of_many_characters_breaks_nothing(client: httpx2.Client) -> None:
    for character in "a \n.1\u3042":
        text = character * 300_000
        assert tokenize(client, text)
    assert detokenize(client, tokenize(client, "still here")) == "still here"


def test_nobody_waits_for_a_long_text(server: RunningServer) -> None:
    text = "Every house has a door. " * 200_000
    ended: list[str] = []

    def long() -> None:
        with server.client(timeout=300) as mine:
            assert mine.post("/lollms/v1/count_tokens", json={"text": text}).json()["count"] > 200_000
        ended.append("long")

    threads = [threading.Thread(target=long) for _ in range(2)]
    with server.client() as mine:
        tokenize(mine, "warm")
        for thread in threads:
            thread.start()
        for _ in range(5):
            tokenize(mine, "short")
            ended.append("short")
    for thread in threads:
        thread.join()
    assert ended[:5] == ["short"] * 5


def test_the_window_is_the_one_that_a_chat_has(client: httpx2.Client) -> None:
    window = client.post("/lollms/v1/context_size", json={"model": MODEL}).json()["context_size"]
    assert client.post("/lollms/v1/context_size", json={}).json() == {"context_size": window}
    question = {"role": "user", "content": "a " * 9000}
    refused = client.post("/v1/chat/completions", json={"model": MODEL, "messages": [question]})
    assert f"window holds {window}" in refused.json()["error"]["message"]


def test_an_endpoints_own_tokenizer_is_asked(client: httpx2.Client, remote: dict[str, Endpoint]) -> None:
    for name in ("vllm-model", "at-vllm/vllm-model"):
        assert tokenize(client, "Hi 👩🏽", name) == [ord(character) for character in "Hi 👩🏽"]
    told = client.post("/lollms/v1/detokenize", json={"model": "vllm-model", "tokens": [72, 105]}).json()
    assert told == {"text": "Hi"}


@pytest.mark.parametrize("name", ["llama3", "llama3:latest", "at-ollama/llama3", "openai-model"])
def test_an_endpoint_without_a_tokenizer_is_counted_by_ours_and_says_so(
    client: httpx2.Client, remote: dict[str, Endpoint], name: str
) -> None:
    text = "Hello, how are you today? 👩🏽"
    told = client.post("/lollms/v1/tokenize", json={"model": name, "text": text}).json()
    assert told == {"tokens": tokenize(client, text), "count": len(told["tokens"]), "exact": False}
    back = client.post("/lollms/v1/detokenize", json={"model": name, "tokens": told["tokens"]}).json()
    assert back == {"text": text, "exact": False}


def test_a_remote_window_is_as_the_endpoint_tells(client: httpx2.Client, remote: dict[str, Endpoint]) -> None:
    def size(name: str) -> int:
        return client.post("/lollms/v1/context_size", json={"model": name}).json()["context_size"]

    assert size("vllm-model") == remote["vllm"].window
    assert size("llama3") == remote["ollama"].window
    assert size("openai-model") == 4096


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def vocabularies() -> AsyncGenerator[Vocabularies]:
    async with Vocabularies(environment(Path.home()), TokenBounds(patience=60, queue=8)) as opened:
        yield opened
    assert not children()


def children() -> list[psutil.Process]:
    return [
        one for one in psutil.Process().children() if "atrium.engines.workers.vocabulary" in " ".join(one.cmdline())
    ]


@pytest.fixture
def card() -> ModelCard:
    return smollm2_card()


@pytest.mark.anyio
async def test_a_tokenizer_that_dies_is_started_again(vocabularies: Vocabularies, card: ModelCard) -> None:
    ids = await vocabularies.encode(card, "Hello world")
    (child,) = children()
    child.kill()
    assert await vocabularies.encode(card, "Hello world") == ids


@pytest.mark.anyio
async def test_whoever_leaves_takes_nothing_along(vocabularies: Vocabularies, card: ModelCard) -> None:
    await vocabularies.count(card, "warm")
    left = asyncio.create_task(vocabularies.count(card, "word " * 400_000))
    await asyncio.sleep(0)
    left.cancel()
    assert await vocabularies.count(card, "a b") == 2


@pytest.mark.anyio
async def test_ends_are_places_in_the_text(vocabularies: Vocabularies, card: ModelCard) -> None:
    for text in [*TEXTS, "plain words and nothing else"]:
        ends = list(await vocabularies.ends(card, text))
        assert len(ends) == await vocabularies.count(card, text)
        assert ends == sorted(ends)
        assert ends[-1] == len(text)
    ends = await vocabularies.ends(None, "aé日")
    assert list(ends) == [1, 1, 2, 2, 2, 3]
    assert await vocabularies.decode(None, [0x41, 0xC3]) == "A\ufffd"


@pytest.mark.anyio
async def test_a_file_that_is_no_model_is_an_error_and_no_crash(vocabularies: Vocabularies) -> None:
    with pytest.raises(EngineFailed, match="cannot be read"):
        await vocabularies.encode(smollm2_card(path=Path(__file__)), "x")
