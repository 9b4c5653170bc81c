"""LangChain's and LiteLLM's clients, and a plain reader of event streams."""

from __future__ import annotations

import json
from typing import Any, cast

import litellm
import pytest
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, SecretStr

from tests.running import RunningServer

CHAT = "smollm2-135m-instruct"
EMBEDDING = "all-minilm-l6-v2"


class City(BaseModel):
    """A city."""

    name: str
    country: str


@pytest.fixture
def langchain(server: RunningServer) -> ChatOpenAI:
    return ChatOpenAI(
        base_url=f"{server.url}/v1", api_key=SecretStr(server.key), model=CHAT, temperature=0, max_retries=0
    )


def test_langchain_chats_and_streams(langchain: ChatOpenAI) -> None:
    bound = langchain.bind(max_tokens=16)
    question = [HumanMessage("Say hello.")]
    whole = bound.invoke(question)
    streamed = "".join(str(chunk.text) for chunk in bound.stream(question))
    assert whole.text
    assert streamed == whole.text


def test_langchain_gets_structured_output(langchain: ChatOpenAI) -> None:
    for method in ("json_schema", "function_calling"):
        shaped: Any = cast("Any", langchain).with_structured_output(City, method=method)
        assert isinstance(shaped.invoke("Name a city."), City)


def test_langchain_embeds_text(server: RunningServer) -> None:
    embeddings = OpenAIEmbeddings(
        base_url=f"{server.url}/v1",
        api_key=SecretStr(server.key),
        model=EMBEDDING,
        check_embedding_ctx_length=False,
        max_retries=0,
    )
    vectors = embeddings.embed_documents(["one", "two"])
    assert [len(v) for v in vectors] == [384, 384]


def test_litellm_chats_streams_and_embeds(server: RunningServer) -> None:
    where: dict[str, Any] = {"api_base": f"{server.url}/v1", "api_key": server.key}
    question = [{"role": "user", "content": "Say hello."}]
    model = f"openai/{CHAT}"
    whole: Any = litellm.completion(model=model, messages=question, max_tokens=12, temperature=0, **where)
    pieces: Any = litellm.completion(model=model, messages=question, max_tokens=12, temperature=0, stream=True, **where)
    assert "".join(p.choices[0].delta.content or "" for p in pieces) == whole.choices[0].message.content
    vectors: Any = litellm.embedding(model=f"openai/{EMBEDDING}", input=["one"], **where)
    assert len(vectors.data[0]["embedding"]) == 384


def test_the_event_stream_keeps_the_contracts_order(server: RunningServer) -> None:
    body = {
        "model": CHAT,
        "messages": [{"role": "user", "content": "Say hello."}],
        "max_tokens": 5,
        "n": 2,
        "stream": True,
        "stream_options": {"include_usage": True},
        "service_tier": "auto",
    }
    with server.client() as client, client.stream("POST", "/v1/chat/completions", json=body) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-atrium-dropped"] == "service_tier"
        lines = [line for line in answer.iter_lines() if line and not line.startswith(":")]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(line[6:]) for line in lines[:-1]]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] > 0
    for index in (0, 1):
        own = [c["choices"][0] for c in chunks[:-1] if c["choices"][0]["index"] == index]
        assert own[0]["delta"] == {"role": "assistant", "content": ""}
        assert [c["finish_reason"] is not None for c in own] == [False] * (len(own) - 1) + [True]
        assert own[-1]["delta"] == {}
