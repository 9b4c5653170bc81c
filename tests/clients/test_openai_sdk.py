"""The official OpenAI client, sync and async, against the running server and the default models."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import AsyncGenerator

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from pydantic import BaseModel

from tests.running import RunningServer

CHAT = "smollm2-135m-instruct"
EMBEDDING = "all-minilm-l6-v2"
HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Say hello in one short sentence."}]
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 40}, "days": {"type": "integer", "maximum": 9}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


class Person(BaseModel):
    name: str
    age: int


@pytest.fixture
def client(server: RunningServer) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0)


@pytest.fixture
async def aclient(server: RunningServer) -> AsyncGenerator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0) as made:
        yield made


def test_a_chat_is_answered_with_usage(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=CHAT, messages=HELLO, max_completion_tokens=40)
    (choice,) = answer.choices
    assert choice.message.content
    assert choice.message.role == "assistant"
    assert choice.finish_reason in {"stop", "length"}
    assert answer.model == CHAT
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert 0 < answer.usage.completion_tokens <= 40


def test_a_stream_says_the_same_as_the_whole_answer(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model=CHAT, messages=HELLO, max_tokens=24, temperature=0)
    chunks = list(
        client.chat.completions.create(
            model=CHAT,
            messages=HELLO,
            max_tokens=24,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == whole.choices[0].finish_reason
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert whole.usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert len({(c.id, c.created, c.model) for c in chunks}) == 1


def test_the_same_seed_gives_the_same_text(client: openai.OpenAI) -> None:
    texts = {
        client.chat.completions.create(model=CHAT, messages=HELLO, max_tokens=16, temperature=1.2, seed=11)
        .choices[0]
        .message.content
        for _ in range(2)
    }
    assert len(texts) == 1


def test_several_choices_count_their_prompt_once(client: openai.OpenAI) -> None:
    one = client.chat.completions.create(model=CHAT, messages=HELLO, max_tokens=5)
    many = client.chat.completions.create(model=CHAT, messages=HELLO, max_tokens=5, n=6, seed=1, temperature=1.5)
    assert [c.index for c in many.choices] == list(range(6))
    assert one.usage is not None
    assert many.usage is not None
    assert many.usage.prompt_tokens == one.usage.prompt_tokens
    assert many.usage.completion_tokens > one.usage.completion_tokens


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_a_demanded_tool_is_called_with_arguments_of_its_schema(client: openai.OpenAI, choice: object) -> None:
    answer = client.chat.completions.create(
        model=CHAT,
        messages=[{"role": "user", "content": "What is the weather in Paris?"}],
        tools=[WEATHER],
        tool_choice=choice,  # pyright: ignore[reportArgumentType] - one of the forms of the SDK's own union
        max_tokens=120,
        temperature=0,
    )
    assert answer.choices[0].finish_reason == "tool_calls"
    calls = answer.choices[0].message.tool_calls
    assert calls
    assert calls[0].type == "function"
    assert calls[0].function.name == "get_weather"
    assert isinstance(json.loads(calls[0].function.arguments)["city"], str)


def test_a_tool_call_streams_its_arguments(client: openai.OpenAI) -> None:
    arguments = ""
    names: list[str] = []
    finish = None
    for chunk in client.chat.completions.create(
        model=CHAT,
        messages=[{"role": "user", "content": "Weather in Rome?"}],
        tools=[WEATHER],
        tool_choice="required",
        parallel_tool_calls=False,
        stream=True,
        max_tokens=120,
        temperature=0,
    ):
        finish = chunk.choices[0].finish_reason or finish
        for call in chunk.choices[0].delta.tool_calls or []:
            if call.function and call.function.name:
                names.append(call.function.name)
            arguments += (call.function.arguments if call.function else None) or ""
    assert names == ["get_weather"]
    assert "city" in json.loads(arguments)
    assert finish == "tool_calls"


@pytest.mark.parametrize("choice", ["none", "auto"])
def test_tools_that_are_not_demanded_leave_a_plain_answer_possible(client: openai.OpenAI, choice: str) -> None:
    answer = client.chat.completions.create(
        model=CHAT,
        messages=HELLO,
        tools=[WEATHER],
        tool_choice=choice,  # pyright: ignore[reportArgumentType] - both are members of the SDK's own union
        max_tokens=60,
    )
    message = answer.choices[0].message
    assert message.content or message.tool_calls
    if choice == "none":
        assert not message.tool_calls


def test_structured_output_parses_into_a_model(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(
        model=CHAT,
        messages=[{"role": "user", "content": "Invent a person with a short name."}],
        response_format=Person,
        max_tokens=120,
        temperature=0,
    )
    assert isinstance(answer.choices[0].message.parsed, Person)


def test_a_json_object_is_one(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=CHAT,
        messages=[{"role": "user", "content": "Give me JSON with one key."}],
        response_format={"type": "json_object"},
        max_tokens=200,
        temperature=0,
    )
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(answer.choices[0].message.content or ""), dict)


def test_logprobs_are_sorted_and_a_greedy_token_comes_first(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=CHAT, messages=HELLO, max_tokens=6, temperature=0, logprobs=True, top_logprobs=3
    )
    scores = answer.choices[0].logprobs
    assert scores is not None
    assert scores.content
    for token in scores.content:
        assert len(token.top_logprobs) == 3
        assert token.token == token.top_logprobs[0].token
        chances = [t.logprob for t in token.top_logprobs]
        assert chances == sorted(chances, reverse=True)


def test_a_stop_string_never_shows(client: openai.OpenAI) -> None:
    free = client.chat.completions.create(model=CHAT, messages=HELLO, max_tokens=24, temperature=0)
    text = free.choices[0].message.content or ""
    stop = text[len(text) // 2 : len(text) // 2 + 3]
    chunks = client.chat.completions.create(
        model=CHAT, messages=HELLO, max_tokens=24, temperature=0, stop=[stop], stream=True
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == text[: text.index(stop)]


def test_embeddings_come_as_base64_by_default_and_equal_the_floats(client: openai.OpenAI) -> None:
    texts = ["A cat sits on the mat.", "Quarterly revenue rose."]
    by_default = client.embeddings.create(model=EMBEDDING, input=texts)
    as_floats = client.embeddings.create(model=EMBEDDING, input=texts, encoding_format="float")
    raw = client.embeddings.with_raw_response.create(model=EMBEDDING, input=texts[0], encoding_format="base64")
    encoded = json.loads(raw.text)["data"][0]["embedding"]
    assert len(struct.unpack("<384f", base64.b64decode(encoded))) == 384
    for one, other in zip(by_default.data, as_floats.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-5)
        assert sum(x * x for x in one.embedding) == pytest.approx(1, abs=1e-4)
    assert by_default.usage.prompt_tokens == as_floats.usage.prompt_tokens > 0


def test_an_unknown_model_is_named_with_its_nearest(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(model="smollm2-135m-instruc", messages=HELLO)
    assert refused.value.code == "model_not_found"
    assert CHAT in refused.value.message


def test_a_prompt_that_does_not_fit_is_refused_by_name(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(
            model=CHAT, messages=[{"role": "user", "content": "word " * 50_000}], stream=True
        )
    assert refused.value.code == "context_length_exceeded"
    assert refused.value.param == "messages"


def test_a_wrong_key_is_refused(server: RunningServer) -> None:
    stranger = openai.OpenAI(base_url=f"{server.url}/v1", api_key="sk-not-a-key", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        stranger.models.list()


def test_models_are_listed_and_found(client: openai.OpenAI) -> None:
    listed = {m.id for m in client.models.list()}
    assert {CHAT, EMBEDDING} <= listed
    assert client.models.retrieve(CHAT).id == CHAT


def test_a_raw_completion_continues_its_prompt(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model=CHAT, prompt=["The capital of France is", "Two plus two is"], max_tokens=6, temperature=0, echo=True
    )
    assert [c.index for c in answer.choices] == [0, 1]
    assert answer.choices[0].text.startswith("The capital of France is")
    assert answer.id.startswith("cmpl-")


async def test_thirty_two_at_once_all_succeed(aclient: openai.AsyncOpenAI) -> None:
    answers = await asyncio.gather(
        *(aclient.chat.completions.create(model=CHAT, messages=HELLO, max_tokens=8) for _ in range(32))
    )
    assert all(a.choices[0].message.content for a in answers)


async def test_an_async_stream_can_be_left_and_the_next_request_works(aclient: openai.AsyncOpenAI) -> None:
    stream = await aclient.chat.completions.create(model=CHAT, messages=HELLO, max_tokens=400, stream=True)
    async for _ in stream:
        break
    await stream.close()
    answer = await aclient.chat.completions.create(model=CHAT, messages=HELLO, max_tokens=4)
    assert answer.choices[0].message.content


async def test_async_embeddings_of_token_ids_equal_those_of_their_text(aclient: openai.AsyncOpenAI) -> None:
    text = await aclient.embeddings.create(model=EMBEDDING, input="hello world")
    ids = await aclient.embeddings.create(model=EMBEDDING, input=[7592, 2088])
    assert ids.data[0].embedding == pytest.approx(text.data[0].embedding, abs=1e-4)
