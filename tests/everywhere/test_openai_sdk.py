"""The official OpenAI SDK, sync and async, wherever the model runs. Contract `openai.md`."""

from __future__ import annotations

import gc
import json
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.everywhere.conftest import WORDS, Place, gathered, settled
from tests.running import RunningServer

HELLO = [{"role": "user", "content": "Say hello."}]
CALL = [{"role": "user", "content": "call it"}]
BRIEF: dict[str, Any] = {"max_tokens": 8, "temperature": 0}
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
CITY = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 9}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "weather", "description": "d", "parameters": CITY}}


class City(BaseModel):
    city: str


@pytest.fixture(params=[openai.OpenAI, openai.AsyncOpenAI], ids=["sync", "async"])
def sdk(house: RunningServer, request: pytest.FixtureRequest) -> Any:
    return request.param(base_url=f"{house.url}/v1", api_key=house.key, max_retries=0)


async def test_a_chat_is_the_same_whole_and_streamed(sdk: Any, place: Place) -> None:
    create = sdk.chat.completions.create
    whole = await settled(create(model=place.chat, messages=HELLO, seed=3, top_p=0.9, user="ann", **BRIEF))
    streams = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = await gathered(create(model=place.chat, messages=HELLO, seed=3, top_p=0.9, **streams, **BRIEF))
    assert place.says(whole.choices[0].message.content)
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == whole.choices[0].message.content
    assert whole.choices[0].finish_reason in ("stop", "length")
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens > 0
    assert whole.model == place.chat


async def test_several_choices_are_several_answers(sdk: Any, asked: Place) -> None:
    answer = await settled(sdk.chat.completions.create(model=asked.chat, messages=HELLO, n=2, **BRIEF))
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert all(asked.says(choice.message.content) for choice in answer.choices)


async def test_structured_output_parses(sdk: Any, place: Place) -> None:
    asked: dict[str, Any] = {"model": place.chat, "messages": HELLO, "max_tokens": 90, "temperature": 0}
    answer = await settled(sdk.chat.completions.parse(**asked, response_format=City))
    assert isinstance(answer.choices[0].message.parsed, City)
    loose = await settled(sdk.chat.completions.create(**asked, response_format={"type": "json_object"}))
    if loose.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(loose.choices[0].message.content), dict)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_tool_is_called_with_text_for_arguments(sdk: Any, endpoint: Place, stream: bool) -> None:
    create = sdk.chat.completions.create
    answer = create(model=endpoint.chat, messages=CALL, tools=[TOOL], stream=stream)
    if stream:
        chunks = await gathered(answer)
        calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
        finish = [chunk.choices[0].finish_reason for chunk in chunks][-1]
    else:
        choice = (await settled(answer)).choices[0]
        calls, finish = choice.message.tool_calls, choice.finish_reason
    assert [call.function.name for call in calls if call.function.name] == ["weather"]
    assert json.loads("".join(call.function.arguments or "" for call in calls)) == {"city": "Paris", "days": 2}
    assert finish == "tool_calls"


async def test_a_tools_result_is_answered(sdk: Any, place: Place) -> None:
    call = {"id": "call_7", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
    history = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_7", "content": "22 C"},
    ]
    create = sdk.chat.completions.create
    message = (await settled(create(model=place.chat, messages=history, tools=[TOOL], **BRIEF))).choices[0].message
    assert message.content or message.tool_calls


async def test_thoughts_stand_apart(sdk: Any, endpoint: Place) -> None:
    create = sdk.chat.completions.create
    whole = await settled(create(model=endpoint.chat, messages=HELLO, reasoning_effort="low"))
    chunks = await gathered(create(model=endpoint.chat, messages=HELLO, reasoning_effort="low", stream=True))
    message = whole.choices[0].message
    assert (message.content, message.reasoning_content) == (WORDS, "let me think")
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas) == "let me think"
    assert "".join(delta.content or "" for delta in deltas) == WORDS


async def test_a_picture_reaches_an_endpoint_and_is_refused_where_nothing_sees(sdk: Any, place: Place) -> None:
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    question = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, picture]}]
    create = sdk.chat.completions.create
    if place.fake:
        answer = await settled(create(model=place.chat, messages=question))
        assert place.says(answer.choices[0].message.content)
        assert PNG in json.dumps(place.told())
        return
    with pytest.raises(openai.BadRequestError) as error:
        await settled(create(model=place.chat, messages=question))
    assert error.value.param == "messages[0].content[1]"


async def test_a_prompt_is_completed_whole_and_streamed(sdk: Any, place: Place) -> None:
    whole = await settled(sdk.completions.create(model=place.chat, prompt="One, two,", **BRIEF))
    chunks = await gathered(sdk.completions.create(model=place.chat, prompt="One, two,", stream=True, **BRIEF))
    assert place.says(whole.choices[0].text)
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == whole.choices[0].text


@pytest.mark.parametrize("form", ["float", "base64", None])
async def test_vectors_keep_their_order(sdk: Any, place: Place, form: str | None) -> None:
    asked = {"encoding_format": form} if form else {}
    raw = sdk.embeddings.with_raw_response if form == "base64" else sdk.embeddings
    answer = await settled(raw.create(model=place.embedding, input=["one", "two"], **asked))
    if form == "base64":
        rows = json.loads(answer.content)["data"]
        assert [row["index"] for row in rows] == [0, 1]
        return
    assert [len(row.embedding) for row in answer.data] == [place.vector] * 2
    assert answer.usage.prompt_tokens > 0


async def test_models_are_listed_and_found(sdk: Any, place: Place) -> None:
    page = await settled(sdk.models.list())
    listed = [model.id.removesuffix(":latest") for model in page.data]
    assert {place.chat, place.embedding} <= set(listed)
    assert listed.index(place.chat) < listed.index(place.embedding), "chat models come first"
    found = await settled(sdk.models.retrieve(place.chat))
    assert found.id.removesuffix(":latest") == place.chat


async def test_unknown_models_are_not_found(sdk: Any) -> None:
    for answer in (
        lambda: sdk.chat.completions.create(model="nobody", messages=HELLO),
        lambda: sdk.completions.create(model="nobody", prompt="x"),
        lambda: sdk.embeddings.create(model="nobody", input="x"),
        lambda: sdk.models.retrieve("nobody"),
    ):
        with pytest.raises(openai.NotFoundError) as error:
            await settled(answer())
        assert error.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("fault", "kind"), [("status=500", openai.InternalServerError), ("status=429", openai.RateLimitError)]
)
async def test_an_endpoints_failure_is_an_error(sdk: Any, endpoint: Place, fault: str, kind: type[Exception]) -> None:
    question = [{"role": "user", "content": f"[fake {fault}]"}]
    with pytest.raises(kind):
        await settled(sdk.chat.completions.create(model=endpoint.chat, messages=question))


async def test_a_stream_that_breaks_is_an_error(sdk: Any, endpoint: Place) -> None:
    question = [{"role": "user", "content": "[fake broken]"}]
    with pytest.raises(openai.APIError):
        await gathered(sdk.chat.completions.create(model=endpoint.chat, messages=question, stream=True))


async def test_whoever_leaves_a_stream_leaves_the_model_free(sdk: Any, endpoint: Place) -> None:
    question = [{"role": "user", "content": "[fake pace=20ms, chunks=5000]"}]
    stream = await settled(sdk.chat.completions.create(model=endpoint.chat, messages=question, stream=True))
    await settled(stream.close())
    gc.collect()
    assert endpoint.fake is not None
    endpoint.fake.when(in_flight=0)
    assert endpoint.says(
        (await settled(sdk.chat.completions.create(model=endpoint.chat, messages=HELLO))).choices[0].message.content
    )
