"""Tool calls in the markups of several families of models: chosen by the template, enforced, and read as they come."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from llguidance import LLMatcher, LLTokenizer

from atrium.core.answers import CallBegun, CallPiece, Event, TextPiece
from atrium.core.models import Vocabulary
from atrium.core.requests import Chat, FreeText, Message, Role, Tool, ToolCall, ToolMode, ToolUse
from atrium.dialects.llamacpp.calls import CallReader
from atrium.dialects.llamacpp.grammar import Frame, answer_grammar
from atrium.dialects.llamacpp.markups import Markup, markup_of
from atrium.dialects.llamacpp.prompt import chat_pieces
from atrium.dialects.llamacpp.template import ChatTemplate

TOOLS = tuple(
    Tool(name, "", {"properties": {"city": {"type": "string"}}, "required": ["city"]}) for name in ("weather", "time")
)
ROME = '{"city":"R}o\\"{me"}'
OSLO = '{"city":"Oslo"}'
FAMILIES: dict[str, tuple[str, str]] = {
    "hermes": (
        "{{ tools }}<tool_call>",
        (
            '<tool_call>\n{"name": "weather", "arguments": «1»}\n</tool_call>\n'
            '<tool_call>\n{"name": "time", "arguments": «2»}\n</tool_call>'
        ),
    ),
    "mistral": (
        "{{ tools }}[TOOL_CALLS]",
        '[TOOL_CALLS][{"name": "weather", "arguments": «1»}, {"name": "time", "arguments": «2»}]',
    ),
    "mistral, newer": ("{{ tools }}[TOOL_CALLS][ARGS]", "[TOOL_CALLS]weather[ARGS]«1»[TOOL_CALLS]time[ARGS]«2»"),
    "llama 3": (
        "{{ tools }}<|python_tag|>",
        '{"name": "weather", "parameters": «1»}; {"name": "time", "parameters": «2»}',
    ),
    "phi": (
        "{{ tools }}<|tool_call|><|/tool_call|>",
        '<|tool_call|>[{"name": "weather", "arguments": «1»}, {"name": "time", "arguments": «2»}]<|/tool_call|>',
    ),
    "granite": (
        "{{ tools }}<|tool_call|>",
        '<|tool_call|>[{"name": "weather", "arguments": «1»}, {"name": "time", "arguments": «2»}]',
    ),
    "deepseek": (
        "{{ tools }}<｜tool▁calls▁begin｜>",
        (
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n«1»\n```<｜tool▁call▁end｜>\n"
            "<｜tool▁call▁begin｜>function<｜tool▁sep｜>time\n```json\n«2»\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
        ),
    ),
}


def told(family: str) -> tuple[Markup, str]:
    template, text = FAMILIES[family]
    return ChatTemplate(template).markup, text.replace("«1»", ROME).replace("«2»", OSLO)


def read(markup: Markup, *pieces: str) -> list[Event]:
    reader = CallReader(0, lambda index: f"call_{index}", markup)
    return [event for piece in pieces for event in reader.feed(piece)] + reader.flush()


def calls_of(events: list[Event]) -> list[tuple[str, Any]]:
    names = [event.name for event in events if isinstance(event, CallBegun)]
    texts = ["" for _ in names]
    for event in events:
        if isinstance(event, CallPiece):
            texts[event.index] += event.text
    return [(name, json.loads(text)) for name, text in zip(names, texts, strict=True)]


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextPiece))


@pytest.mark.parametrize("family", FAMILIES)
def test_calls_are_read_wherever_their_text_is_cut_and_nothing_of_them_is_text(family: str) -> None:
    markup, text = told(family)
    for cut in range(1, len(text)):
        events = read(markup, text[:cut], text[cut:])
        assert calls_of(events) == [("weather", json.loads(ROME)), ("time", {"city": "Oslo"})]
        assert text_of(events) == ""


@pytest.mark.parametrize("family", FAMILIES)
def test_of_an_answer_that_is_cut_off_no_beginning_of_a_call_is_text(family: str) -> None:
    markup, text = told(family)
    for end in range(1, len(text)):
        reader = CallReader(0, lambda index: f"call_{index}", markup, forced=True)
        assert text_of(reader.feed(text[:end]) + reader.flush(cut=True)) == ""
        reader = CallReader(0, lambda index: f"call_{index}", markup)
        assert text_of(reader.feed(text[:end]) + reader.flush(cut=True)) in ("", text[:end])


@pytest.mark.parametrize("family", FAMILIES)
def test_arguments_come_piece_by_piece_and_words_before_a_call_stay(family: str) -> None:
    markup, text = told(family)
    words = "Let me see. " if markup.mark else ""
    events = read(markup, *words, *text)
    assert sum(isinstance(event, CallPiece) for event in events) >= len(ROME)
    assert text_of(events) == words


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mode", [ToolMode.AUTO, ToolMode.REQUIRED])
def test_what_is_enforced_is_what_is_read(family: str, mode: ToolMode) -> None:
    markup, text = told(family)
    grammar = answer_grammar(FreeText(), ToolUse(TOOLS, mode), Frame(10_000, markup=markup))
    assert admitted(grammar, text)
    assert admitted(grammar, "Hello there.") is (mode is ToolMode.AUTO)
    assert not admitted(grammar, text.replace("city", "town"))
    if markup.mark:
        assert admitted(grammar, f"Let me see.\n{text}") is (mode is ToolMode.AUTO)
        assert not admitted(grammar, f"Let me see.\n{text}".replace("city", "town"))


def admitted(grammar: str, text: str) -> bool:
    tokenizer = LLTokenizer("byte")
    matcher = LLMatcher(tokenizer, grammar)
    assert not matcher.is_error(), matcher.get_error()
    tokens = tokenizer.tokenize_str(text)
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


def test_marks_that_are_control_tokens_are_enforced_as_such() -> None:
    markup, _ = told("mistral, newer")
    control = {"[TOOL_CALLS]": 5, "[ARGS]": 7}
    grammar = answer_grammar(
        FreeText(), ToolUse(TOOLS, ToolMode.REQUIRED), Frame(10_000, control=control, markup=markup)
    )
    assert "start: <[5]> call (<[5]> call)" in grammar
    assert 'call_0: "weather" <[7]> args_0' in grammar


def test_a_text_that_only_looks_like_a_call_at_first_is_a_text() -> None:
    markup, _ = told("llama 3")
    for text in ('{"nam', '{"names": []}', '{"name": "x"', "{}", "Hello", ""):
        assert text_of(read(markup, *text)) == text
    assert calls_of(read(markup, "<|python", "_tag|>", '{"name": "f", "parameters": {}}')) == [("f", {})]


def test_a_template_that_takes_one_call_gets_one() -> None:
    assert markup_of("<|python_tag|>").parallel
    alone = markup_of("<|python_tag|>{{ raise_exception('This model only supports single tool-calls at once!') }}")
    grammar = answer_grammar(FreeText(), ToolUse(TOOLS, ToolMode.REQUIRED), Frame(10_000, markup=alone))
    assert "; " not in grammar


def test_ids_are_shortened_for_a_template_that_looks_at_them() -> None:
    source = (
        "{{ tools }}[TOOL_CALLS]{% for m in messages %}{% for c in m.tool_calls or [] %}"
        "{% if c.id|length != 9 %}{{ raise_exception('length 9!') }}{% endif %}({{ c.id }}){% endfor %}"
        "{% if m.tool_call_id %}[{{ m.tool_call_id }}]{% endif %}{% endfor %}"
    )
    messages = (
        Message(Role.ASSISTANT, "", tool_calls=(ToolCall("call_" + "x" * 24, "f", "{}"),)),
        Message(Role.TOOL, "1", tool_call_id="call_" + "x" * 24),
    )
    pieces = chat_pieces(
        Chat("m", messages),
        ChatTemplate(source),
        Vocabulary(9, {}),
        nonce="n",
        now=datetime(2026, 1, 2, tzinfo=UTC),
        expired=lambda: False,
    )
    (text,) = pieces
    called, answered = str(text).split("(")[1].split(")[")
    assert (called, len(called)) == (answered.rstrip("]"), 9)
