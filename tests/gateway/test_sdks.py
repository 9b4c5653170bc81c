"""The official SDKs, unchanged, through the gateway."""

from __future__ import annotations

from typing import Any, cast

import ollama
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from tests.running import RunningServer

QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hello"}]
CALL: list[ChatCompletionMessageParam] = [{"role": "user", "content": "call it"}]
TOOL: ChatCompletionToolParam = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


@pytest.fixture
def client(relay: RunningServer) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{relay.url}/olla/openai/v1", api_key=relay.key, max_retries=0)


@pytest.fixture
def llama(relay: RunningServer) -> Any:
    key = {"Authorization": f"Bearer {relay.key}"}
    return cast("Any", ollama.Client(f"{relay.url}/olla/ollama", headers=key))


def test_the_openai_sdk_chats_streams_and_lists(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="m1", messages=QUESTION)
    assert (answer.choices[0].message.content or "").startswith("word0")
    stream = client.chat.completions.create(model="llama3", messages=QUESTION, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream).endswith("word4 ")
    assert {model.id for model in client.models.list()} == {"m1", "org/m2", "llama3:latest", "phi3:mini"}
    assert client.models.retrieve("org/m2").id == "org/m2"
    assert client.embeddings.create(model="m1", input="x", encoding_format="float").data[0].embedding == [0.6, 0.8]


async def test_the_async_openai_sdk_streams(relay: RunningServer) -> None:
    async with openai.AsyncOpenAI(base_url=f"{relay.url}/olla/openai/v1", api_key=relay.key) as client:
        stream = await client.chat.completions.create(model="m1", messages=QUESTION, stream=True)
        words = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert "".join(words).endswith("word4 ")


def test_the_openai_sdk_is_called_tools_whole_and_streamed(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="m1", messages=CALL, tools=[TOOL])
    calls: list[Any] = list(whole.choices[0].message.tool_calls or [])
    assert [call.function.name for call in calls] == ["weather"]
    assert "Paris" in calls[0].function.arguments
    chunks = list(client.chat.completions.create(model="m1", messages=CALL, tools=[TOOL], stream=True))
    pieces = [call for chunk in chunks for choice in chunk.choices for call in choice.delta.tool_calls or []]
    arguments = "".join(piece.function.arguments or "" for piece in pieces if piece.function)
    assert arguments == calls[0].function.arguments


def test_the_openai_sdk_raises_its_own_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="nobody's", messages=QUESTION)
    assert unknown.value.code == "MODEL_NOT_FOUND"
    stranger = client.with_options(api_key="lollms_0123456789abcdef_" + "0" * 48)
    with pytest.raises(openai.AuthenticationError):
        stranger.chat.completions.create(model="m1", messages=QUESTION)
    with pytest.raises(openai.RateLimitError) as busy:
        client.chat.completions.create(model="m1", messages=QUESTION, extra_headers={"X-Fake": "status=429"})
    assert busy.value.response.headers["retry-after"] == "7"
    half = {"X-Fake": "half"}
    with (
        client.chat.completions.with_streaming_response.create(
            model="m1", messages=QUESTION, stream=True, extra_headers=half
        ) as broken,
        pytest.raises(Exception, match="incomplete chunked read"),
    ):
        list(broken.iter_bytes())
    assert client.chat.completions.create(model="m1", messages=QUESTION).choices


def test_the_ollama_sdk_chats_streams_and_lists(llama: Any) -> None:
    question = [{"role": "user", "content": "hello"}]
    assert llama.chat("llama3", question)["message"]["content"].startswith("word0")
    words = [part["message"]["content"] for part in llama.chat("llama3", question, stream=True)]
    assert "".join(words).endswith("word4 ")
    assert "".join(part["response"] for part in llama.generate("phi3:mini", "hello", stream=True)).endswith("word4 ")
    assert {model.model for model in llama.list().models} == {"llama3:latest", "phi3:mini"}
    assert [model.model for model in llama.ps().models] == ["llama3:latest"]
    assert llama.embed("llama3", ["x", "y"]).embeddings == [[0.6, 0.8], [0.6, 0.8]]


@pytest.mark.parametrize("stream", [False, True])
def test_the_ollama_sdk_is_called_tools(llama: Any, stream: bool) -> None:
    answer = llama.chat("llama3", [{"role": "user", "content": "call it"}], tools=[TOOL], stream=stream)
    parts: list[Any] = list(answer) if stream else [answer]
    calls = [call for part in parts for call in cast("list[Any]", part.message.tool_calls or [])]
    assert [(call.function.name, call.function.arguments["city"]) for call in calls] == [("weather", "Paris")]


def test_the_ollama_sdk_raises_its_own_errors(relay: RunningServer, llama: Any) -> None:
    question = [{"role": "user", "content": "hello"}]
    with pytest.raises(ollama.ResponseError) as unknown:
        llama.chat("nobody's", question)
    assert unknown.value.status_code == 404
    stranger: Any = ollama.Client(f"{relay.url}/olla/ollama", headers={"Authorization": "Bearer nobody"})
    with pytest.raises(ollama.ResponseError) as refused:
        stranger.list()
    assert refused.value.status_code == 401
