"""What a request wishes of the engine and of the model's template, as both are told."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from atrium.core.models import Vocabulary
from atrium.core.requests import Chat, Message, Role, Sampling, Think
from atrium.dialects.llamacpp.grammar import Thoughts
from atrium.dialects.llamacpp.prompt import chat_pieces, thoughts_of, told_variables
from atrium.dialects.llamacpp.request import Shaping, completion_body
from atrium.dialects.llamacpp.template import ChatTemplate

NOW = datetime(2026, 1, 2, tzinfo=UTC)
VOCABULARY = Vocabulary(100, {"<|s|>": 1, "<|e|>": 2}, bos=1, eos=2)
TEMPLATE = "{% for m in messages %}<|s|>{{ m['content'] }}{% endfor %}"


def test_every_sampling_field_goes_to_the_engine() -> None:
    sampling = Sampling(
        temperature=0.5,
        top_p=0.9,
        top_k=7,
        min_p=0.1,
        typical_p=0.8,
        repeat_penalty=1.1,
        repeat_last_n=64,
        frequency_penalty=1,
        presence_penalty=-1,
        logit_bias={5: -100.0},
        ignore_eos=True,
    )
    shaping = Shaping("start: x", ("<think>",))
    body = json.loads(completion_body([1, 2], sampling, max_tokens=9, seed=-1, shaping=shaping, top_logprobs=0))
    assert body == {
        "prompt": [1, 2],
        "stream": True,
        "n_predict": 9,
        "cache_prompt": True,
        "return_tokens": True,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 7,
        "min_p": 0.1,
        "typical_p": 0.8,
        "repeat_penalty": 1.1,
        "repeat_last_n": 64,
        "frequency_penalty": 1,
        "presence_penalty": -1,
        "seed": 2**32 - 1,
        "logit_bias": [[5, -100.0]],
        "ignore_eos": True,
        "grammar": "start: x",
        "preserved_tokens": ["<think>"],
        "n_probs": 1,
    }


THINKS = (
    "{% for m in messages %}<|s|>{{ m['content'] }}{% endfor %}"
    "{% if reasoning_effort == 'low' %}briefly{% endif %}{% if enable_thinking is false %}<think></think>{% endif %}"
)


@pytest.mark.parametrize(
    ("think", "told", "dropped"),
    [
        (Think.LOW, {"reasoning_effort": "low", "enable_thinking": True}, ()),
        (Think.OFF, {"reasoning_effort": "none", "enable_thinking": False}, ()),
        (None, {}, ()),
    ],
)
def test_a_template_is_told_how_hard_to_think(think: Think | None, told: object, dropped: object) -> None:
    chat = Chat("", (Message(Role.USER, "x"),), think=think)
    assert told_variables(chat, ChatTemplate(THINKS)) == (told, dropped)
    assert told_variables(chat, ChatTemplate(TEMPLATE)) == ({}, () if think is None else ("think",))


def test_a_variable_that_the_template_compares_arrives_as_it_is_and_control_text_never() -> None:
    kwargs: Any = {"reasoning_effort": "low", "mood": "sunny", "messages": []}
    chat = Chat("", (Message(Role.USER, "x"),), template=kwargs)
    made = chat_pieces(chat, ChatTemplate(THINKS), VOCABULARY, nonce="n", now=NOW, expired=lambda: False)
    assert made == [1, "xbriefly"]
    assert told_variables(chat, ChatTemplate(THINKS))[1] == (
        "chat_template_kwargs.mood",
        "chat_template_kwargs.messages",
    )
    shown = ChatTemplate("{{ mood }}")
    hidden = Chat("", (Message(Role.USER, "x"),), template={"mood": "<|s|>"})
    assert chat_pieces(hidden, shown, VOCABULARY, nonce="n", now=NOW, expired=lambda: False) == ["<|s|>"]


@pytest.mark.parametrize(
    ("pieces_", "thoughts"),
    [
        ([1, "assistant\n<think>\n"], Thoughts.OPEN),
        ([1, "assistant\n", 7], Thoughts.OPEN),
        ([1, "assistant\n", 7, "\n"], Thoughts.OPEN),
        ([1, "assistant\n"], Thoughts.POSSIBLE),
    ],
)
def test_whether_an_answer_begins_with_reasoning_is_seen_from_its_prompt(pieces_: Any, thoughts: Thoughts) -> None:
    vocabulary = Vocabulary(100, {"<think>": 7} if 7 in pieces_ else {})
    assert thoughts_of(pieces_, ChatTemplate(THINKS), vocabulary) is thoughts
