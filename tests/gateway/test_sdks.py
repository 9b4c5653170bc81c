"""The official SDKs, unchanged, through the gateway."""

from __future__ import annotations

from typing import Any, cast

import ollama
import openai
from openai.types.chat import ChatCompletionMessageParam

from tests.running import RunningServer


def test_the_openai_sdk_chats_streams_and_lists(relay: RunningServer) -> None:
    client = openai.OpenAI(base_url=f"{relay.url}/olla/openai/v1", api_key=relay.key)
    question: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hello"}]
    answer = client.chat.completions.create(model="m1", messages=question)
    assert (answer.choices[0].message.content or "").startswith("word0")
    stream = client.chat.completions.create(model="llama3", messages=question, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream).endswith("word4 ")
    assert "m1" in {model.id for model in client.models.list()}
    assert client.embeddings.create(model="m1", input="x", encoding_format="float").data[0].embedding == [0.6, 0.8]


def test_the_ollama_sdk_chats_streams_and_lists(relay: RunningServer) -> None:
    client = ollama.Client(f"{relay.url}/olla/ollama", headers={"Authorization": f"Bearer {relay.key}"})
    question = [{"role": "user", "content": "hello"}]
    chat: Any = cast("Any", client).chat
    assert chat("llama3", question)["message"]["content"].startswith("word0")
    words = [part["message"]["content"] for part in chat("llama3", question, stream=True)]
    assert "".join(words).endswith("word4 ")
    assert {model.model for model in client.list().models} == {"llama3:latest", "phi3:mini"}
