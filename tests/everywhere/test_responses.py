"""OpenAI's Responses API, wherever the model runs. Contract `openai.md`, section 6; `lollms.md`, section 12, row 14."""

from __future__ import annotations

import contextlib
import importlib
import json
from typing import Any

import httpx2
import openai
import pytest

from tests.everywhere.conftest import LOCAL, OLLAMA, OPENAI, Place, gathered, settled
from tests.running import RunningServer

CITY = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 9}}, "required": ["city"]}
TOOL: dict[str, Any] = {"type": "function", "name": "weather", "description": "d", "parameters": CITY, "strict": False}
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@pytest.fixture(params=[openai.OpenAI, openai.AsyncOpenAI], ids=["sync", "async"])
def sdk(house: RunningServer, request: pytest.FixtureRequest) -> Any:
    return request.param(base_url=f"{house.url}/v1", api_key=house.key, max_retries=0)


async def test_a_response_is_the_same_whole_and_streamed(sdk: Any, asked: Place) -> None:
    brief: dict[str, Any] = {"max_output_tokens": 8, "temperature": 0, "metadata": {"a": "b"}}
    whole = await settled(sdk.responses.create(model=asked.chat, input="Say hello.", instructions="Be kind.", **brief))
    events = await gathered(
        sdk.responses.create(model=asked.chat, input="Say hello.", instructions="Be kind.", stream=True, **brief)
    )
    assert asked.says(whole.output_text)
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == whole.output_text
    assert [event.sequence_number for event in events] == list(range(len(events)))
    last = events[-1].response
    assert events[-1].type == f"response.{whole.status}"
    assert last.output_text == whole.output_text
    assert (last.usage.output_tokens, last.usage.input_tokens) == (
        whole.usage.output_tokens,
        whole.usage.input_tokens,
    )
    assert (whole.instructions, whole.metadata, whole.temperature) == ("Be kind.", {"a": "b"}, 0)
    assert whole.id.startswith("resp_")


async def test_an_answer_that_was_cut_off_says_so(sdk: Any, places: dict[str, Place]) -> None:
    answer = await settled(sdk.responses.create(model=places[LOCAL].chat, input="Go on.", max_output_tokens=2))
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert answer.output[-1].status == "incomplete"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_tool_is_called_and_its_result_answered(sdk: Any, asked: Place, stream: bool) -> None:
    more = {"tools": [TOOL], "tool_choice": "required"} if asked.kind == LOCAL else {"tools": [TOOL]}
    answer = sdk.responses.create(model=asked.chat, input="call it", stream=stream, **more)
    if stream:
        events = await gathered(answer)
        told = events[-1].response
        done = next(event for event in events if event.type == "response.function_call_arguments.done")
        deltas = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
        assert "".join(deltas) == done.arguments
    else:
        told = await settled(answer)
    call = next(item for item in told.output if item.type == "function_call")
    assert (call.name, call.status) == ("weather", "completed")
    assert "city" in json.loads(call.arguments)
    history = [
        {"role": "user", "content": [{"type": "input_text", "text": "call it"}]},
        {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments},
        {"type": "function_call_output", "call_id": call.call_id, "output": "22 C"},
    ]
    create = sdk.responses.create
    after = await settled(create(model=asked.chat, input=history, tools=[TOOL], max_output_tokens=8))
    assert after.output


async def test_an_answer_has_the_shape_that_was_asked_for(sdk: Any, places: dict[str, Place]) -> None:
    shape = {"format": {"type": "json_schema", "name": "city", "schema": CITY, "strict": True}}
    answer = await settled(sdk.responses.create(model=places[LOCAL].chat, input="Where?", text=shape))
    assert "city" in json.loads(answer.output_text)
    assert answer.text.format.type == "json_schema"


async def test_thoughts_are_an_item_of_their_own(sdk: Any, places: dict[str, Place]) -> None:
    model = places[OLLAMA].chat
    whole = await settled(sdk.responses.create(model=model, input="Why?", reasoning={"effort": "low"}))
    events = await gathered(sdk.responses.create(model=model, input="Why?", reasoning={"effort": "low"}, stream=True))
    assert [item.type for item in whole.output] == ["reasoning", "message"]
    assert whole.output[0].content[0].text == "let me think"
    thought = [event.delta for event in events if event.type == "response.reasoning_text.delta"]
    assert "".join(thought) == "let me think"


async def test_pictures_reach_an_endpoint(sdk: Any, places: dict[str, Place]) -> None:
    place = places[OLLAMA]
    parts = [
        {"type": "input_text", "text": "What?"},
        {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "low"},
    ]
    answer = await settled(sdk.responses.create(model=place.chat, input=[{"role": "user", "content": parts}]))
    assert place.says(answer.output_text)
    assert PNG in json.dumps(place.told())


def test_an_endpoint_that_speaks_it_is_relayed_what_was_sent(house: RunningServer, places: dict[str, Place]) -> None:
    place = places[OPENAI]
    sent = {"model": place.chat, "input": "Hello", "store": True, "previous_response_id": "resp_1"}
    with house.client() as client:
        client.post("/v1/responses", json=sent)
    assert place.told() == sent


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": []}, "input"),
        ({"input": 7}, "input"),
        ({"input": [{"type": "function_call_output", "call_id": "no", "output": "x"}]}, "input"),
        ({"input": [{"role": "nobody", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0].image_url"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]"),
        ({"input": [{"type": "computer_call"}]}, "input[0]"),
        ({"input": "x", "max_output_tokens": 0}, "max_output_tokens"),
        ({"input": "x", "tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"input": "x", "tools": [{"type": "function"}]}, "tools[0].name"),
        ({"input": "x", "tools": ["weather"]}, "tools[0]"),
        ({"input": "x", "tools": [TOOL], "tool_choice": {"type": "function", "name": "a.file.b"}}, "tool_choice"),
        ({"input": "x", "tool_choice": {"type": "file_search"}}, "tool_choice.type"),
        ({"input": "x", "text": {"format": {"type": "yaml"}}}, "text.format.type"),
        ({"input": "x", "text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format"),
        ({"input": "x", "reasoning": {"effort": "vast"}}, "reasoning.effort"),
        ({"input": "x", "previous_response_id": "resp_1"}, "previous_response_id"),
        ({"input": "x", "conversation": "conv_1"}, "conversation"),
        ({"input": "x", "background": True}, "background"),
    ],
)
def test_what_is_wrong_is_named_in_its_own_words(house: RunningServer, body: dict[str, Any], param: str) -> None:
    with house.client() as client:
        answer = client.post("/v1/responses", json={"model": "parrot", **body})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param), error
    assert "messages" not in error["message"]
    assert "a.file.b" in error["message"] or "a.file.b" not in json.dumps(body)


def test_what_is_of_no_effect_is_named(house: RunningServer) -> None:
    body: dict[str, Any] = {
        "model": "parrot",
        "input": "x",
        "store": True,
        "service_tier": "auto",
        "max_output_tokens": 2,
    }
    more = {"include": ["reasoning.encrypted_content"], "reasoning": {"summary": "auto"}, "text": {"verbosity": "low"}}
    with house.client() as client:
        answer = client.post("/v1/responses", json=body | more)
    assert answer.status_code == 200, answer.text
    named = set(answer.headers["x-atrium-dropped"].split(", "))
    assert named == {"store", "service_tier", "include", "reasoning.summary", "text.verbosity"}
    assert answer.json()["store"] is False


def test_a_stream_that_breaks_ends_as_failed(house: RunningServer) -> None:
    house.install("fake:breaks?fault=crash@3")
    body = {"model": "breaks", "input": "x", "stream": True}
    events: list[dict[str, Any]] = []
    broken = contextlib.suppress(httpx2.RemoteProtocolError)
    with house.client() as client, client.stream("POST", "/v1/responses", json=body) as answer, broken:
        for line in answer.iter_lines():
            events += [json.loads(line[6:])] if line.startswith("data: ") else []
    assert (events[0]["type"], events[-1]["type"]) == ("response.created", "response.failed")
    told = events[-1]["response"]
    assert (told["status"], told["error"]["code"], told["usage"]) == ("failed", "server_error", None)


def test_scores_come_where_they_are_asked_for(house: RunningServer) -> None:
    sent = {"input": "x", "include": ["message.output_text.logprobs"], "top_logprobs": 2, "max_output_tokens": 3}
    with house.client() as client:
        answer = client.post("/ollama/v1/responses", json={"model": "parrot", **sent}).json()
    scores = answer["output"][0]["content"][0]["logprobs"]
    assert len(scores) == 3
    assert max(len(score["top_logprobs"]) for score in scores) == 2


def test_lollms_client_creates_a_response(house: RunningServer, asked: Place) -> None:
    config = {"host_address": house.url, "service_key": house.key, "model_name": asked.chat}
    library: Any = importlib.import_module("lollms_client")
    binding = library.LollmsClient(llm_binding_name="lollms", llm_binding_config=config).llm
    answer = binding.create_response("Say hello.", instructions="Be kind.", max_output_tokens=8, temperature=0.5)
    assert answer["object"] == "response"
    assert asked.says(answer["output"][0]["content"][0]["text"])
