"""The fake speaks like llama.cpp's server, and misbehaves when, and only when, it is told to."""

from __future__ import annotations

import json
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atrium.core.requests import JsonValue
from atrium.decisions.fake_address import CONTROL, END_OF_TURN, fake_card
from atrium.engines.workers.fake_grammar import instance, shortest
from atrium.engines.workers.fake_speech import Wish, bytes_of, speak, tokens_of
from tests.engines.supervised import ANNA, ask, asked, complete, stream, supervised
from tests.weights import smollm2_card

HELLO = [72, 101, 108, 108, 111]
WISH = Wish(prompt=tuple(HELLO), most=40, words=512, window=8192)


def said(wish: Wish) -> str:
    return "".join(piece.text for piece in speak(wish))


def wish(**changes: Any) -> Wish:
    return Wish(**{name: getattr(WISH, name) for name in WISH.__slots__} | changes)


@given(st.text(), st.booleans())
def test_text_becomes_tokens_and_text_again(text: str, special: bool) -> None:
    ids = tokens_of(text, special=special)
    assert b"".join(map(bytes_of, ids)).decode() == text


def test_control_text_is_one_token_only_when_it_may_be() -> None:
    assert tokens_of("a<|im_end|>", special=True) == [97, CONTROL["<|im_end|>"]]
    assert len(tokens_of("a<|im_end|>", special=False)) == 11
    assert tokens_of([5, "a", 6], special=False) == [5, 97, 6]


def test_the_same_prompt_and_seed_say_the_same() -> None:
    assert said(WISH) == said(WISH)
    assert said(WISH) != said(wish(seed=1))
    assert said(wish(seed=1, greedy=True)) == said(wish(seed=2, greedy=True))


@given(st.integers(0, 60), st.integers(1, 12), st.integers(0, 50))
def test_a_stop_string_is_never_said(at: int, length: int, seed: int) -> None:
    whole = said(wish(seed=seed))
    stop = whole[at : at + length]
    if not stop:
        return
    pieces = list(speak(wish(seed=seed, stop=(stop,))))
    assert "".join(piece.text for piece in pieces) == whole[: whole.index(stop)]
    assert (pieces[-1].ending, pieces[-1].stop) == ("word", stop)


def test_an_answer_ends_by_itself_unless_that_is_banned() -> None:
    last = list(speak(wish(words=3)))[-1]
    assert (last.token, last.ending) == (END_OF_TURN, "eos")
    assert len(list(speak(wish(words=3, banned=frozenset({END_OF_TURN}))))) == 40


@pytest.mark.parametrize(
    ("grammar", "text"),
    [
        ('%llguidance {}\nstart: %json {"type": "object"}', "{}"),
        ('start: "<tool_call>" obj "</tool_call>"\nobj: %json {"const": 5}', "<tool_call>5</tool_call>"),
        ("start: /[a-z]+/", None),
        ("", None),
    ],
)
def test_a_simple_grammar_is_satisfied(grammar: str, text: str | None) -> None:
    assert shortest(grammar) == text


def test_a_simple_schema_has_a_small_instance() -> None:
    schema: JsonValue = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 6},
            "age": {"type": "integer", "minimum": 3},
            "tags": {"type": "array", "items": {"enum": ["x"]}, "minItems": 2},
            "free": {"type": "boolean"},
        },
        "required": ["name", "age", "tags"],
    }
    assert instance(schema) == {"name": "word..", "age": 3, "tags": ["x", "x"]}


async def events_of(folder: Path, options: str, **more: Any) -> list[dict[str, Any]]:
    """All events of an answer of ten tokens, an exception's name in place of a broken end."""
    seen: list[dict[str, Any]] = []
    card = fake_card(f"fake:one?{options}", created=1)
    async with supervised(folder) as (engines, _), engines.lease(card, ANNA) as lease:
        try:
            async with aclosing(stream(lease.runner.socket, HELLO, 10, **more)) as events:
                async for event in events:
                    seen.append(event)  # noqa: PERF401 - what came before a fault is kept
        except (OSError, EOFError, UnicodeDecodeError, json.JSONDecodeError) as broken:
            seen.append({"broken": type(broken).__name__})
    return seen


async def test_a_whole_answer_ends_with_its_counts(tmp_path: Path) -> None:
    *pieces, last = await events_of(tmp_path, "")
    assert [piece["tokens_predicted"] for piece in pieces] == list(range(1, 11))
    assert (last["stop_type"], last["tokens_predicted"], last["tokens_evaluated"]) == ("limit", 10, 5)


@pytest.mark.parametrize(("fault", "pieces"), [("crash@4", 4), ("drop@4", 4), ("nonsense@4", 4), ("crash@0", 0)])
async def test_a_fault_comes_after_its_token(tmp_path: Path, fault: str, pieces: int) -> None:
    *before, last = await events_of(tmp_path, f"fault={fault}")
    assert len(before) == pieces
    assert "broken" in last or pieces == 0


async def test_a_hanging_answer_ends_when_its_client_leaves(tmp_path: Path) -> None:
    card = fake_card("fake:one?fault=hang@2&slots=1", created=1)
    async with supervised(tmp_path) as (engines, _), engines.lease(card, ANNA) as lease:
        socket = lease.runner.socket
        async with aclosing(stream(socket, HELLO, 10)) as events:
            assert [(await anext(events))["tokens_predicted"] for _ in "12"] == [1, 2]
            assert (await ask(socket, "/fake"))["in_flight"] == 1
        while (await ask(socket, "/fake"))["in_flight"]:
            continue


@pytest.mark.parametrize("engine", ["fake", "llamacpp"])
async def test_both_engines_answer_the_same_questions(tmp_path: Path, engine: str) -> None:
    card = smollm2_card() if engine == "llamacpp" else fake_card("fake:one", created=1)
    async with supervised(tmp_path) as (engines, _), engines.lease(card, ANNA) as lease:
        socket = lease.runner.socket
        assert await ask(socket, "/health") == {"status": "ok"}
        ids = (await ask(socket, "/tokenize", {"content": [1, "né <|im_end|>"], "parse_special": False}))["tokens"]
        assert ids[0] == 1
        assert (await ask(socket, "/detokenize", {"tokens": ids[1:]}))["content"] == "né <|im_end|>"
        assert await ask(socket, "/slots")
        whole = {"index", "content", "tokens", "stop", "tokens_predicted", "tokens_evaluated"}
        last = whole | {"stop_type", "stopping_word", "tokens_cached", "timings", "truncated", "id_slot"}
        events = [event async for event in stream(socket, ids, 3, n_probs=2)]
        assert all(whole <= event.keys() for event in events)
        assert last <= events[-1].keys()
        (score,) = events[0]["completion_probabilities"]
        assert score.keys() == {"id", "token", "bytes", "logprob", "top_logprobs"}
        assert score["top_logprobs"][0]["logprob"] == score["logprob"]
        trimmed = [event async for event in stream(socket, ids, 3, response_fields=["stop", "stop_type"])]
        assert trimmed[-1] == {"stop": True, "stop_type": "limit"}
        assert await complete(socket, ids, 3, stop=["never said"])


@pytest.mark.parametrize("engine", ["fake", "llamacpp"])
async def test_a_prompt_that_is_too_long_is_refused_alike(tmp_path: Path, engine: str) -> None:
    card = smollm2_card() if engine == "llamacpp" else fake_card("fake:one?context=512", created=1)
    async with supervised(tmp_path) as (engines, _), engines.lease(card, ANNA) as lease:
        with pytest.raises(AssertionError, match=r"400 Bad Request[\s\S]*exceed_context_size_error"):
            async with asked(lease.runner.socket, "/completion", {"prompt": [5] * 512, "stream": True}):
                pytest.fail("it was taken")


def unit(vector: list[float]) -> float:
    return sum(x * x for x in vector)


@pytest.mark.parametrize(
    ("path", "field"), [("/embedding", "content"), ("/embeddings", "input"), ("/v1/embeddings", "input")]
)
async def test_embeddings_have_unit_length(tmp_path: Path, path: str, field: str) -> None:
    card = fake_card("fake:one?ability=embedding", created=1)
    async with supervised(tmp_path) as (engines, _), engines.lease(card, ANNA) as lease:
        answer = await ask(lease.runner.socket, path, {field: [[1, 2], [3], [1, 2]]})
        rows = answer["data"] if path == "/v1/embeddings" else answer
        one, two, again = (row["embedding"] if path == "/v1/embeddings" else row["embedding"][0] for row in rows)
        assert one == again != two
        assert unit(one) == pytest.approx(1)
