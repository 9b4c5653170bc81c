"""`lollms_client`'s three bindings, wherever the model runs. Contract `lollms.md`, section 12."""

from __future__ import annotations

import gc
import importlib
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.everywhere.conftest import OLLAMA, OPENAI, WORDS, Place
from tests.running import RunningServer

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
THOUGHTS = re.compile(r"<think>\s*let me think\s*</think>\s*")
TOOL = {"type": "function", "function": {"name": "weather", "description": "d", "parameters": {"type": "object"}}}
Bind = Callable[..., Any]


@pytest.fixture(scope="module")
def client_library() -> Any:
    return importlib.import_module("lollms_client")


@pytest.fixture
def statuses(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of every answer that the client got: it hides refusals by asking again with less."""
    seen: list[int] = []
    send = httpx.Client.send

    def watched(client: httpx.Client, *parts: Any, **more: Any) -> httpx.Response:
        answer = send(client, *parts, **more)
        seen.append(answer.status_code)
        return answer

    monkeypatch.setattr(httpx.Client, "send", watched)
    return seen


@pytest.fixture
def bind(house: RunningServer, client_library: Any, place: Place) -> Bind:
    def bound(name: str, model: str = place.chat) -> Any:
        address = f"{house.url}/v1" if name == "openai" else house.url
        config = {"host_address": address, "service_key": house.key, "model_name": model}
        return client_library.LollmsClient(llm_binding_name=name, llm_binding_config=config).llm

    return bound


@pytest.fixture(params=["lollms", "ollama", "openai"])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def binding(bind: Bind, name: str) -> Any:
    made = bind(name)
    if name == "openai":
        # Its own tokenizer comes from the internet; Atrium is not asked for tokens.
        made.tokenize, made.detokenize = list, "".join
    return made


@pytest.fixture
def pieces() -> list[str]:
    return []


def hear(pieces: list[str], *, goes_on: bool = True) -> Callable[[str, object], bool]:
    def heard(piece: str, _: object) -> bool:
        pieces.append(piece)
        return goes_on

    return heard


def hung_up(place: Place) -> None:
    """Returns once the endpoint is asked by nobody."""
    # OpenAI's client closes a stream that it left when that is collected.
    gc.collect()
    if place.fake:
        place.fake.when(in_flight=0)


def sampling(place: Place, name: str) -> dict[str, Any]:
    """What the client may be told, but for what OpenAI's API has no name for, and the binding sends nevertheless."""
    asked: dict[str, Any] = {"n_predict": 8, "temperature": 0.5, "top_p": 0.9, "seed": 3}
    alien = place.kind == OPENAI and name == "ollama"
    return asked if alien else asked | {"top_k": 5, "repeat_penalty": 1.1, "repeat_last_n": 16}


def test_a_text_is_generated_as_it_was_asked_for(binding: Any, name: str, place: Place, statuses: list[int]) -> None:
    said = binding.generate_text("Say hello.", system_prompt="Be brief.", **sampling(place, name))
    assert place.says(said)
    assert statuses == [200]
    if place.fake:
        told = place.told()
        options = told["options"] if place.kind == OLLAMA else told
        assert (options["temperature"], options["top_p"]) == (0.5, 0.9)
        assert options.get("seed") == (None if name == "lollms" else 3), "the client's own binding sends none"
        assert options["num_predict" if place.kind == OLLAMA else "max_tokens"] == 8
        assert [message["role"] for message in told["messages"]] == ["system", "user"]


def test_a_stream_is_heard_piece_by_piece(binding: Any, place: Place, pieces: list[str], statuses: list[int]) -> None:
    said = binding.generate_text("Say hello.", n_predict=8, stream=True, streaming_callback=hear(pieces))
    assert said.strip() == "".join(pieces).strip()
    assert len(pieces) > 1
    assert statuses == [200]


def test_a_conversation_goes_on_whole_and_streamed(
    binding: Any, place: Place, pieces: list[str], statuses: list[int]
) -> None:
    said = ("system", "Be brief."), ("user", "One word."), ("assistant", "Yes."), ("user", "Another.")
    messages = [{"role": role, "content": text} for role, text in said]
    assert place.says(binding.generate_from_messages(messages, n_predict=8))
    streamed = binding.generate_from_messages(messages, n_predict=8, stream=True, streaming_callback=hear(pieces))
    assert place.says(streamed)
    assert "".join(pieces) == streamed
    assert statuses == [200, 200]
    if place.fake:
        assert [(one["role"], one["content"]) for one in place.told()["messages"]] == list(said)


def test_a_conversation_in_one_text_is_taken_apart(binding: Any, place: Place) -> None:
    text = "!@>user:\nhello\n!@>assistant:\nyes\n!@>user:\nbye"
    assert place.says(binding.generate_text(text, split=True, n_predict=8))
    if place.fake:
        assert [one["role"] for one in place.told()["messages"]][-3:] == ["user", "assistant", "user"]


def test_whoever_is_told_to_stop_leaves_the_model_free(binding: Any, place: Place, pieces: list[str]) -> None:
    endless = "[fake pace=20ms, chunks=5000] Count to a million."
    said = binding.generate_text(endless, stream=True, streaming_callback=hear(pieces, goes_on=False))
    assert said.strip() == pieces[0].strip()
    hung_up(place)
    assert place.says(binding.generate_text("Say hello.", n_predict=8))


def test_a_client_that_cancels_from_elsewhere_can_ask_again(binding: Any, name: str, place: Place) -> None:
    heard: list[str] = []

    def cancel(piece: str, _: object) -> bool:
        heard.append(piece)
        binding.cancel()
        return True

    endless = "[fake pace=20ms, chunks=5000] Count to a million."
    binding.generate_text(endless, stream=True, streaming_callback=cancel)
    assert len(heard) <= 2, "the client may add that its connection is gone"
    hung_up(place)
    binding.reset_cancel()
    assert place.says(binding.generate_text("Say hello.", n_predict=8))


def test_thoughts_are_told_apart_where_a_model_has_them(
    binding: Any, name: str, place: Place, pieces: list[str]
) -> None:
    asked: dict[str, Any] = {"n_predict": 8, "think": True, "reasoning_effort": "low"}
    if not place.thinks and name == "ollama":
        with pytest.raises(RuntimeError, match="does not support thinking"):
            binding.generate_text("Say hello.", **asked)
        return
    whole = binding.generate_text("Say hello.", **asked)
    streamed = binding.generate_text("Say hello.", **asked, stream=True, streaming_callback=hear(pieces))
    for said in (whole, streamed):
        assert bool(THOUGHTS.search(said)) is place.thinks
        assert place.says(THOUGHTS.sub("", said))


def test_a_picture_reaches_an_endpoint_and_is_refused_where_nothing_sees(binding: Any, name: str, place: Place) -> None:
    if place.fake:
        assert place.says(binding.generate_text("What is it?", images=[PNG], n_predict=8))
        last = place.told()["messages"][-1]
        if place.kind == OLLAMA:
            assert (last["content"], last["images"]) == ("What is it?", [PNG])
        else:
            # In Ollama's words pictures have no place among the words: they come first, as its own engine has them.
            text, picture = sorted(last["content"], key=lambda part: part["type"], reverse=True)
            assert text == {"type": "text", "text": "What is it?"}
            assert last["content"][0] == (picture if name == "ollama" else text)
            assert picture["image_url"]["url"].partition(";base64,")[2] == PNG
        return
    if name == "openai":
        told = binding.generate_text("What is it?", images=[PNG], n_predict=8)
        assert "takes no image" in told["message"]
        return
    with pytest.raises(Exception, match="takes no image"):
        binding.generate_text("What is it?", images=[PNG], n_predict=8)


@pytest.mark.parametrize("name", ["lollms", "openai"])
def test_tools_are_offered(binding: Any, place: Place, statuses: list[int]) -> None:
    said = binding.generate_from_messages([{"role": "user", "content": "Just talk."}], n_predict=8, tools=[TOOL])
    assert isinstance(said, str)
    assert statuses == [200]
    if place.fake:
        assert [tool["function"]["name"] for tool in place.told()["tools"]] == ["weather"]


def test_vectors_come_from_the_model_that_was_named(binding: Any, name: str, place: Place, statuses: list[int]) -> None:
    if name == "ollama":
        assert len(binding.embed("one text", model=place.embedding)) == place.vector
    else:
        many = binding.embed(["one text", "another"], model=place.embedding, normalize=True)
        assert [len(vector) for vector in many] == [place.vector] * 2
        assert len(binding.embed("one text", model=place.embedding)) == place.vector
    assert set(statuses) == {200}


def test_models_are_listed_and_one_is_taken(binding: Any, name: str, place: Place) -> None:
    known = {model["model_name"].removesuffix(":latest") for model in binding.list_models()}
    assert {place.chat, place.embedding} <= known
    assert binding.load_model(place.chat) is not False
    assert binding.get_model_info()["model_name"] == place.chat
    assert isinstance(binding.ps(), list)


@pytest.mark.parametrize("name", ["lollms", "ollama"])
def test_the_window_is_the_same_whoever_asks(binding: Any, place: Place) -> None:
    assert binding._get_ctx_size() == place.window


def test_an_unknown_model_is_an_error_that_names_it(bind: Bind, name: str, place: Place) -> None:
    binding = bind(name, "nobody")
    if name == "ollama":
        with pytest.raises(RuntimeError, match="model 'nobody' not found"):
            binding.generate_text("Say hello.", n_predict=8)
    else:
        told = binding.generate_text("Say hello.", n_predict=8)
        assert told["status"] == "error"
        assert "'nobody'" in told["message"]


@pytest.mark.parametrize("fault", ["status=500", "broken", "half"])
def test_an_endpoints_failure_is_an_error_and_no_short_answer(
    bind: Bind, name: str, endpoint: Place, pieces: list[str], fault: str
) -> None:
    binding = bind(name, endpoint.chat)
    if hasattr(binding, "client"):
        binding.client = binding.client.with_options(max_retries=0)
    asked = {"stream": True, "streaming_callback": hear(pieces)}
    if name == "ollama":
        with pytest.raises(RuntimeError):
            binding.generate_text(f"[fake {fault}] Say hello.", **asked)
    else:
        told = binding.generate_text(f"[fake {fault}] Say hello.", **asked)
        assert told["status"] == "error"
        assert WORDS not in "".join(pieces)


def test_tokens_are_counted_and_come_back(bind: Bind, place: Place) -> None:
    lollms = bind("lollms")
    text = "Tokens 日本 <|im_end|> \r\n 👩🏽\u200d🚀"
    tokens = lollms.tokenize(text)
    assert lollms.detokenize(tokens) == text
    assert lollms.count_tokens(text) == len(tokens) > 0
    assert lollms._remote_tokenizer_healthy


def test_a_long_text_is_worked_through(bind: Bind, place: Place) -> None:
    text = "The bread is warm. " * (3000 if place.fake else 20)
    assert place.says(bind("lollms").long_context_process(text, None, max_generation_tokens=8))


def test_models_are_listed_by_type_and_binding(bind: Bind, place: Place) -> None:
    lollms = bind("lollms")
    alias = place.fake.name if place.fake else "local"
    listed = {one["model_name"].removesuffix(":latest") for one in lollms.list_models_by_type("llm", alias)}
    assert place.chat in listed
    assert alias in lollms.get_capabilities()["active_bindings"]["llm"]
    vectors = {one["model_name"].removesuffix(":latest") for one in lollms.list_models_by_type("rag", alias)}
    assert place.embedding in vectors


def test_a_pulled_model_is_there_and_an_unloaded_one_may_be_asked_again(bind: Bind, place: Place) -> None:
    ollama = bind("ollama")
    steps: list[Any] = []
    assert ollama.pull_model(place.chat, steps.append)["status"] is True
    assert steps[-1]["status"] == "success"
    assert ollama.unload_model() is True
    assert place.says(ollama.generate_text("Say hello.", n_predict=8))
    assert ollama.supports_vision in (True, False)
