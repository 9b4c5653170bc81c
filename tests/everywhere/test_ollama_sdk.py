"""The official Ollama SDK, sync and async, wherever the model runs. Contract `ollama.md`."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

import ollama
import pytest

from tests.everywhere.conftest import OLLAMA, OPENAI, WORDS, Place, gathered, settled
from tests.running import RunningServer

HELLO = [{"role": "user", "content": "Say hello."}]
BRIEF = {"num_predict": 8, "temperature": 0}
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
CITY = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 9}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "weather", "description": "d", "parameters": CITY}}


@pytest.fixture(params=[ollama.Client, ollama.AsyncClient], ids=["sync", "async"])
def sdk(house: RunningServer, request: pytest.FixtureRequest) -> Any:
    return request.param(house.url, headers={"Authorization": f"Bearer {house.key}"})


async def refused(ask: Callable[..., Any], *given: Any, **more: Any) -> ollama.ResponseError:
    with pytest.raises(ollama.ResponseError) as error:
        await (gathered if more.get("stream") else settled)(ask(*given, **more))
    return error.value


async def test_a_chat_is_the_same_whole_and_streamed(sdk: Any, place: Place) -> None:
    whole = await settled(sdk.chat(place.chat, HELLO, options=BRIEF))
    parts = await gathered(sdk.chat(place.chat, HELLO, options=BRIEF, stream=True))
    assert place.says(whole.message.content)
    assert "".join(part.message.content for part in parts) == whole.message.content
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    for last in (whole, parts[-1]):
        assert last.model.removesuffix(":latest") == place.chat
        assert last.done_reason in ("stop", "length")
        assert min(last.prompt_eval_count, last.eval_count, last.total_duration, last.eval_duration) > 0


async def test_a_generation_is_the_same_whole_and_streamed(sdk: Any, place: Place) -> None:
    asked = {"system": "Be brief.", "options": BRIEF}
    whole = await settled(sdk.generate(place.chat, "Say hello.", **asked))
    parts = await gathered(sdk.generate(place.chat, "Say hello.", **asked, stream=True))
    assert place.says(whole.response)
    assert "".join(part.response for part in parts) == whole.response
    assert parts[-1].done


async def test_an_answer_has_the_shape_that_was_asked_for(sdk: Any, place: Place) -> None:
    options = {"num_predict": 60, "temperature": 0}
    chat = await settled(sdk.chat(place.chat, HELLO, format=CITY, options=options))
    generated = await settled(sdk.generate(place.chat, "Name a city.", format=CITY, options=options))
    for text in (chat.message.content, generated.response):
        assert isinstance(json.loads(text)["city"], str)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_tool_call_has_an_object_for_arguments(sdk: Any, endpoint: Place, stream: bool) -> None:
    question = [{"role": "user", "content": "call it"}]
    answer = sdk.chat(endpoint.chat, question, tools=[TOOL], stream=stream)
    parts = await gathered(answer) if stream else [await settled(answer)]
    [call] = [call for part in parts for call in part.message.tool_calls or ()]
    assert (call.function.name, call.function.arguments) == ("weather", {"city": "Paris", "days": 2})


async def test_a_tools_result_is_answered(sdk: Any, place: Place) -> None:
    made = {"role": "assistant", "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Rome"}}}]}
    result = {"role": "tool", "tool_name": "weather", "content": "22 C"}
    told = await settled(sdk.chat(place.chat, [*HELLO, made, result], tools=[TOOL], options=BRIEF))
    assert told.message.content or told.message.tool_calls


async def test_thoughts_stand_apart_and_may_be_forbidden(sdk: Any, place: Place) -> None:
    quiet = await settled(sdk.chat(place.chat, HELLO, think=False, options=BRIEF))
    assert place.says(quiet.message.content)
    assert not quiet.message.thinking
    if not place.thinks:
        assert "does not support thinking" in (await refused(sdk.chat, place.chat, HELLO, think=True)).error
        return
    for level in (True, "high"):
        parts = await gathered(sdk.chat(place.chat, HELLO, think=level, stream=True))
        assert "".join(part.message.thinking or "" for part in parts) == "let me think"
        assert "".join(part.message.content or "" for part in parts) == WORDS


async def test_a_picture_reaches_an_endpoint_and_is_refused_where_nothing_sees(sdk: Any, place: Place) -> None:
    question = [{"role": "user", "content": "What is it?", "images": [PNG]}]
    if not place.fake:
        assert "takes no image" in (await refused(sdk.chat, place.chat, question)).error
        assert "takes no image" in (await refused(sdk.generate, place.chat, "What is it?", images=[PNG])).error
        return
    assert place.says((await settled(sdk.chat(place.chat, question))).message.content)
    assert PNG in json.dumps(place.told())
    assert place.says((await settled(sdk.generate(place.chat, "What is it?", images=[PNG]))).response)
    assert PNG in json.dumps(place.told())


async def test_vectors_keep_their_order_and_may_be_shorter(sdk: Any, place: Place) -> None:
    many = await settled(sdk.embed(place.embedding, ["one", "two"]))
    assert [len(vector) for vector in many.embeddings] == [place.vector] * 2
    assert many.prompt_eval_count > 0
    old = await settled(sdk.embeddings(place.embedding, "two"))
    assert list(old.embedding) == pytest.approx(many.embeddings[1], abs=1e-2)
    if place.kind != OLLAMA:  # Its fake takes no notice of the wish, which is handed on as it is.
        short = await settled(sdk.embed(place.embedding, "two", dimensions=1))
        assert [len(vector) for vector in short.embeddings] == [1]


async def test_models_are_listed_and_shown(sdk: Any, place: Place) -> None:
    listed = {model.model: model for model in (await settled(sdk.list())).models}
    for name in (place.chat, place.embedding):
        entry = listed[f"{name}:latest"]
        assert entry.modified_at.year > 2020
        assert len(entry.digest) == 64
    shown = await settled(sdk.show(place.chat))
    architecture = shown.modelinfo["general.architecture"]
    assert shown.modelinfo[f"{architecture}.context_length"] == place.window
    assert "completion" in shown.capabilities
    assert "embedding" in (await settled(sdk.show(place.embedding))).capabilities or place.kind == OLLAMA


async def test_only_models_in_this_machines_memory_are_running(sdk: Any, place: Place) -> None:
    await settled(sdk.generate(place.chat, "Hello.", options=BRIEF))
    running = {model.name for model in (await settled(sdk.ps())).models}
    assert (f"{place.chat}:latest" in running) is (place.fake is None)


async def test_a_model_that_is_there_is_pulled_at_once_and_an_unknown_one_not_at_all(sdk: Any, place: Place) -> None:
    steps = await gathered(sdk.pull(place.chat, stream=True))
    assert (steps[0].status, steps[-1].status) == ("pulling manifest", "success")
    assert (await settled(sdk.pull(place.chat))).status == "success"
    assert (await refused(sdk.pull, "nobody", stream=True)).error == "pull model manifest: file does not exist"
    assert (await refused(sdk.pull, "nobody")).error == "pull model manifest: file does not exist"


async def test_an_endpoints_model_is_changed_where_it_is(sdk: Any, endpoint: Place) -> None:
    for change in (
        functools.partial(sdk.delete, endpoint.chat),
        functools.partial(sdk.copy, endpoint.chat, "copied"),
        functools.partial(sdk.create, "made", from_=endpoint.chat, system="Be brief."),
    ):
        error = await refused(change)
        assert error.status_code == 400
        assert "is an endpoint's" in error.error


async def test_without_words_a_model_is_only_loaded_or_unloaded(sdk: Any, place: Place) -> None:
    if place.kind == OLLAMA:
        await settled(sdk.generate(place.chat, keep_alive=0))
        assert place.told().get("keep_alive") == 0
        return
    assert (await settled(sdk.generate(place.chat))).done_reason == "load"
    assert (await settled(sdk.generate(place.chat, keep_alive=0))).done_reason == "unload"


@pytest.mark.parametrize("stream", [False, True])
async def test_unknown_models_are_not_found(sdk: Any, stream: bool) -> None:
    for ask, said in ((sdk.chat, HELLO), (sdk.generate, "x")):
        error = await refused(ask, "nobody", said, stream=stream)
        assert (error.status_code, error.error) == (404, "model 'nobody' not found")
    assert (await refused(sdk.embed, "nobody", "x")).status_code == 404
    assert (await refused(sdk.show, "nobody")).status_code == 404


async def test_what_openai_has_no_word_for_is_refused_by_name(sdk: Any, places: dict[str, Place]) -> None:
    model = places[OPENAI].chat
    for asked, name in (({"raw": True}, "raw"), ({"suffix": "x"}, "suffix"), ({"context": [1]}, "context")):
        error = await refused(sdk.generate, model, "x", **asked)
        assert (error.status_code, f"'{name}'" in error.error) == (400, True)


@pytest.mark.parametrize(("fault", "status"), [("status=500", {500, 502}), ("status=429", {429}), ("reset", {502})])
async def test_an_endpoints_failure_is_an_error(sdk: Any, endpoint: Place, fault: str, status: set[int]) -> None:
    question = [{"role": "user", "content": f"[fake {fault}]"}]
    assert (await refused(sdk.chat, endpoint.chat, question)).status_code in status


async def test_a_stream_that_breaks_is_an_error(sdk: Any, endpoint: Place) -> None:
    with pytest.raises(Exception, match=r"it broke|peer closed|incomplete"):
        await gathered(sdk.chat(endpoint.chat, [{"role": "user", "content": "[fake broken]"}], stream=True))
