"""From words to a dialect and back: requests keep their meaning, and answers do wherever their bytes are cut."""

from __future__ import annotations

import itertools
import json
from array import array
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atrium.core.answers import (
    Begun,
    CallBegun,
    CallPiece,
    Ended,
    Event,
    Finish,
    ReasoningPiece,
    Spent,
    TextPiece,
    Timing,
    TokenChance,
    TokenScore,
    Usage,
    Vectors,
)
from atrium.core.errors import AtriumError, BadResponse, UpstreamFailed
from atrium.core.requests import (
    Chat,
    Dialect,
    FreeText,
    JsonObject,
    JsonSchema,
    Media,
    Message,
    Role,
    Sampling,
    Think,
    Tool,
    ToolCall,
    ToolUse,
)
from atrium.dialects.bounds import RequestBounds
from atrium.dialects.loss import Loss
from atrium.dialects.ollama import inward as ollama_in
from atrium.dialects.ollama import outward as ollama_out
from atrium.dialects.ollama.answer import AnswerLines, WholeAnswer, chat_members
from atrium.dialects.ollama.answer import Stamp as OllamaStamp
from atrium.dialects.ollama.listings import embed_body
from atrium.dialects.ollama.request import parse_chat as parse_ollama
from atrium.dialects.openai import inward as openai_in
from atrium.dialects.openai import outward as openai_out
from atrium.dialects.openai.answer import Collected, chat_body
from atrium.dialects.openai.listings import embeddings_body
from atrium.dialects.openai.request import parse_chat as parse_openai
from atrium.dialects.openai.stream import ChatStream, Stamp
from atrium.dialects.reading import AnswerReader, Reading
from atrium.dialects.thoughts import ThoughtfulReader

BOUNDS = RequestBounds()
PIXEL = Media("image", "data:image/png;base64,iVBORw0KGgo=", "messages[0]")
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
WORD = st.from_regex(r"[a-z]{1,8}", fullmatch=True)
ARGUMENTS = st.dictionaries(WORD, st.integers(-9, 9) | TEXT, max_size=3).map(json.dumps)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    messages: list[Message] = []
    for number in range(draw(st.integers(1, 4))):
        images = (PIXEL,) if draw(st.booleans()) else ()
        messages.append(Message(Role.USER, draw(TEXT), images))
        calls = tuple(
            ToolCall(f"call_{number}_{index}", draw(WORD), draw(ARGUMENTS)) for index in range(draw(st.integers(0, 2)))
        )
        messages.append(Message(Role.ASSISTANT, draw(TEXT) or "x", tool_calls=calls))
        messages += [Message(Role.TOOL, draw(TEXT), name=call.name, tool_call_id=call.id) for call in calls]
    return tuple(messages)


SAMPLINGS = st.builds(
    Sampling,
    temperature=st.none() | st.floats(0, 2),
    top_p=st.none() | st.floats(0, 1),
    frequency_penalty=st.none() | st.floats(-2, 2),
    seed=st.none() | st.integers(0, 2**31),
    max_tokens=st.none() | st.integers(1, 1000),
    stop=st.lists(WORD, max_size=3).map(tuple),
)
SHAPES = st.sampled_from([FreeText(), JsonObject(), JsonSchema({"type": "object"})])
TOOLS = st.lists(
    st.builds(Tool, name=WORD, description=TEXT, parameters=st.just({"type": "object", "properties": {}})),
    max_size=2,
    unique_by=lambda tool: tool.name,
).map(lambda tools: ToolUse(tuple(tools)))
CHATS = st.builds(
    Chat,
    model=st.just("m"),
    messages=conversations(),
    sampling=SAMPLINGS,
    tool_use=TOOLS,
    constraint=SHAPES,
    stream=st.booleans(),
    think=st.sampled_from([None, Think.LOW, Think.MEDIUM, Think.HIGH]),
)


def meaning(chat: Chat) -> object:
    """What must not change: order, words, calls with their results, images, wishes."""
    names = {call.id: f"{place}.{call.name}" for place, m in enumerate(chat.messages) for call in m.tool_calls}
    messages = [
        (
            m.role,
            m.text,
            [media.url for media in m.media],
            [(call.name, json.loads(call.arguments)) for call in m.tool_calls],
            names.get(m.tool_call_id or ""),
        )
        for m in chat.messages
    ]
    shape = chat.constraint.schema if isinstance(chat.constraint, JsonSchema) else type(chat.constraint)
    tools = [(tool.name, tool.description, dict(tool.parameters)) for tool in chat.tool_use.tools]
    return messages, chat.sampling, shape, tools, chat.stream, chat.think


@given(CHATS, st.sampled_from([None, *Think]))
def test_a_chat_keeps_its_meaning_in_ollamas_words(chat: Chat, think: Think | None) -> None:
    chat = replace(chat, think=think)
    loss = Loss("it")
    back = parse_ollama(ollama_out.write_chat(chat, "m", (0, 13, 0), loss), BOUNDS).said
    assert isinstance(back, Chat)
    assert meaning(back) == meaning(chat)
    assert loss.dropped == []


@given(CHATS)
def test_a_chat_keeps_its_meaning_in_openais_words(chat: Chat) -> None:
    loss = Loss("it")
    back = parse_openai(openai_out.write_chat(replace(chat, dialect=Dialect.OLLAMA), "m", "openai", loss), BOUNDS)
    assert meaning(back) == meaning(chat)
    assert loss.dropped == []


SCORE = TokenScore(TokenChance("a", b"a", -0.5), (TokenChance("a", b"a", -0.5), TokenChance("b", b"b", -1.5)))
SPENT = Spent(Usage(7, 4), Timing(0.0, 0.5, 0.25, 0.125))
ANSWERS: dict[str, tuple[Event, ...]] = {
    "words": (Begun(0), TextPiece(0, "héllo "), TextPiece(0, "\n{\u2028}"), Ended(0, Finish.STOP), SPENT),
    "cut": (Begun(0), TextPiece(0, "a"), Ended(0, Finish.LENGTH), SPENT),
    "thoughts": (Begun(0), ReasoningPiece(0, "hm"), TextPiece(0, "so"), Ended(0, Finish.STOP), SPENT),
    "scores": (Begun(0), TextPiece(0, "a", (SCORE,)), Ended(0, Finish.STOP), SPENT),
    "calls": (
        Begun(0),
        CallBegun(0, 0, "call_a", "one"),
        CallPiece(0, 0, '{"x":'),
        CallPiece(0, 0, "1}"),
        CallBegun(0, 1, "call_b", "two"),
        CallPiece(0, 1, "{}"),
        Ended(0, Finish.TOOL_CALLS),
        SPENT,
    ),
}


def reading(**more: Any) -> Reading:
    return Reading(0, lambda index: f"call_{index}", 100, FreeText(), **more)


def told(events: Sequence[Event]) -> object:
    """An answer without how it was cut into pieces."""
    collected = Collected()
    for event in events:
        collected.feed(event)
    choice = collected.choices[0]
    calls = [(call.id, call.name, json.loads("".join(call.pieces) or "{}")) for call in choice.calls]
    scores = [(score.chosen, score.others) for score in choice.scores]
    return "".join(choice.text), "".join(choice.reasoning), calls, scores, choice.finish, collected.usage


def read(reader: AnswerReader, pieces: Sequence[bytes]) -> list[Event]:
    events = [event for piece in pieces for event in reader.feed(piece)]
    return [*events, *reader.close()]


@st.composite
def answers(draw: st.DrawFn) -> tuple[Event, ...]:
    """Any one: thoughts, then text, then calls, with or without chances, cut off or whole."""
    scored = draw(st.booleans())
    thoughts = [ReasoningPiece(0, text) for text in draw(st.lists(TEXT.filter(bool), max_size=3))]
    texts = draw(st.lists(TEXT.filter(bool), max_size=4))
    pieces = [TextPiece(0, text, (SCORE,) if scored else ()) for text in texts]
    calls: list[Event] = []
    for number, (name, arguments) in enumerate(draw(st.lists(st.tuples(WORD, ARGUMENTS), max_size=3))):
        cut = draw(st.integers(0, len(arguments)))
        calls.append(CallBegun(0, number, f"call_{number}", name))
        calls += [CallPiece(0, number, part) for part in (arguments[:cut], arguments[cut:]) if part]
    finish = Finish.TOOL_CALLS if calls else draw(st.sampled_from([Finish.STOP, Finish.LENGTH]))
    usage = Usage(draw(st.integers(0, 10**6)), draw(st.integers(0, 10**6)))
    return (Begun(0), *thoughts, *pieces, *calls, Ended(0, finish), Spent(usage))


@given(answers(), st.lists(st.integers(0, 2000), max_size=5))
def test_any_answer_means_the_same_in_both_dialects_wherever_it_is_cut(
    events: tuple[Event, ...], cuts: list[int]
) -> None:
    for data, reader in (
        (as_openai(events), ThoughtfulReader(openai_in.ChatReader(reading(), stream=True), 0)),
        (as_ollama(events), ThoughtfulReader(ollama_in.ChatReader(reading()), 0)),
    ):
        edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
        pieces = [data[start:end] for start, end in itertools.pairwise(edges)]
        assert told(read(reader, pieces)) == told(events)


NUMBER = st.floats(-1e6, 1e6, width=32)


@given(st.lists(st.lists(NUMBER, min_size=3, max_size=3), min_size=1, max_size=4), st.integers(0, 10**6))
def test_vectors_are_the_same_in_both_dialects(rows: list[list[float]], prompt: int) -> None:
    raw = tuple(array("f", row).tobytes() for row in rows)
    vectors = Vectors("m", raw, Usage(prompt))
    for embedded in (
        openai_in.embeddings_of(embeddings_body(vectors, as_base64=True), len(rows)),
        openai_in.embeddings_of(embeddings_body(vectors, as_base64=False), len(rows)),
        ollama_in.embeddings_of(embed_body(vectors, 1.0), len(rows)),
    ):
        assert [one.tolist() for one in embedded.vectors] == [array("f", one).tolist() for one in raw]
        assert embedded.tokens == prompt


JSON = st.recursive(st.none() | st.booleans() | st.integers(-9, 9) | TEXT, lambda inner: st.lists(inner, max_size=2))


@given(JSON.filter(lambda error: error is not None) | st.dictionaries(st.sampled_from(["message", "code"]), JSON))
def test_an_error_of_any_shape_is_a_failure_and_no_crash(error: Any) -> None:
    body = json.dumps({"error": error}).encode()
    for reader, data in (
        (openai_in.ChatReader(reading(), stream=False), body),
        (openai_in.ChatReader(reading(), stream=True), b"data: " + body + b"\n\n"),
        (ollama_in.ChatReader(reading()), body),
    ):
        with pytest.raises(UpstreamFailed):
            read(reader, [data])


def as_openai(events: Sequence[Event]) -> bytes:
    stream = ChatStream(Stamp("id", 0, "m", "fp"), include_usage=True)
    return b"".join(stream.feed(event) for event in events)


def as_ollama(events: Sequence[Event]) -> bytes:
    lines = AnswerLines(OllamaStamp("m", lambda: "now", lambda: 1.0), chat_members)
    return b"".join(lines.feed(event) for event in events)


@pytest.mark.parametrize("name", ANSWERS)
def test_a_stream_means_the_same_wherever_it_is_cut(name: str) -> None:
    events = ANSWERS[name]
    for data, reader in (
        (as_openai(events), lambda: openai_in.ChatReader(reading(), stream=True)),
        (as_ollama(events), lambda: ollama_in.ChatReader(reading())),
    ):
        for place in range(len(data) + 1):
            assert told(read(reader(), [data[:place], data[place:]])) == told(events), place
        assert told(read(reader(), [bytes([byte]) for byte in data])) == told(events)


@pytest.mark.parametrize("name", ANSWERS)
def test_a_whole_answer_means_the_same(name: str) -> None:
    events = ANSWERS[name]
    collected, whole = Collected(), WholeAnswer(OllamaStamp("m", lambda: "now", lambda: 1.0), chat_members)
    for event in events:
        collected.feed(event)
        whole.feed(event)
    openai_body = chat_body(Stamp("id", 0, "m", "fp"), collected, scored=True)
    assert told(read(openai_in.ChatReader(reading(), stream=False), [openai_body[:9], openai_body[9:]])) == told(events)
    assert told(read(ollama_in.ChatReader(reading()), [whole.body])) == told(events)


@given(TEXT, TEXT, st.lists(st.integers(0, 60), max_size=4))
def test_thoughts_are_split_from_the_answer_wherever_it_is_cut(thought: str, answer: str, cuts: list[int]) -> None:
    thought, answer = thought.replace("<", ""), "a" + answer
    text = f"<think>{thought}</think>\n\n{answer}"
    edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [TextPiece(0, text[start:end]) for start, end in itertools.pairwise(edges)]
    data = as_openai((Begun(0), *pieces, Ended(0, Finish.STOP), SPENT))
    events = read(ThoughtfulReader(openai_in.ChatReader(reading(), stream=True), 0), [data])
    said, thoughts, *_ = told(events)  # type: ignore[misc]
    assert (said, thoughts) == (answer, thought)


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_without_thoughts_in_it_is_left_as_it_is(name: str) -> None:
    events = ANSWERS[name]
    reader = ThoughtfulReader(openai_in.ChatReader(reading(), stream=True), 0)
    assert told(read(reader, [bytes([byte]) for byte in as_openai(events)])) == told(events)


@pytest.mark.parametrize("text", ["<thin>", "<", " <think", "a <think>b</think>"])
def test_what_only_looks_like_a_thought_stays_in_the_answer(text: str) -> None:
    pieces = [TextPiece(0, one, (SCORE,)) for one in text]
    events = (Begun(0), *pieces, Ended(0, Finish.STOP), SPENT)
    reader = ThoughtfulReader(ollama_in.ChatReader(reading()), 0)
    assert told(read(reader, [as_ollama(events)])) == told(events)


@pytest.mark.parametrize("name", ANSWERS)
def test_a_stream_that_is_cut_off_is_never_whole(name: str) -> None:
    openai_data = as_openai(ANSWERS[name])
    # OpenAI's closing mark may be left out, a reason to finish may not.
    finish = openai_data.index(b'"finish_reason":"')
    for data, reader in (
        (openai_data[:finish], lambda: openai_in.ChatReader(reading(), stream=True)),
        (as_ollama(ANSWERS[name])[:-2], lambda: ollama_in.ChatReader(reading())),
    ):
        for end in range(len(data)):
            with pytest.raises((UpstreamFailed, BadResponse)):
                read(reader(), [data[:end]])


def test_openais_manners_are_borne() -> None:
    data = (
        b': ping\r\n\r\ndata: {"choices": [], "usage": null}\r\n\r\n'
        b'data: {"choices": [{"delta": {"role": "assistant", "content": null, "reasoning": "hm"}}]}\n\n'
        b'event: x\ndata:{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null,"logprobs":null}]}\n\n'
        b'data: {"choices": [{"index": 1, "delta": {"content": "not ours"}}]}\n\n'
        b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n'
    )
    text, thoughts, *_ = told(read(openai_in.ChatReader(reading(), stream=True), [data]))  # type: ignore[misc]
    assert (text, thoughts) == ("a", "hm")


def test_an_answer_in_parts_is_text_and_thoughts() -> None:
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "h"}, {"type": "text", "text": "m"}]},
        {"type": "reference", "reference_ids": [1]},
        {"type": "text", "text": "so"},
    ]
    whole = {"choices": [{"message": {"role": "assistant", "content": parts}, "finish_reason": "stop"}]}
    chunks = [{"choices": [{"delta": {"content": [part]}, "finish_reason": None}]} for part in parts]
    closing = {"choices": [{"delta": {"content": ""}, "finish_reason": "stop"}]}
    stream = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in (*chunks, closing))
    for data, streamed in ((json.dumps(whole).encode(), False), (stream, True)):
        text, thoughts, *_ = told(read(openai_in.ChatReader(reading(), stream=streamed), [data]))  # type: ignore[misc]
        assert (text, thoughts) == ("so", "hm")


def test_a_whole_answer_to_a_stream_is_borne() -> None:
    collected = Collected()
    for event in ANSWERS["calls"]:
        collected.feed(event)
    body = chat_body(Stamp("id", 0, "m", "fp"), collected)
    for data in (body, body + b"\n"):
        assert told(read(openai_in.ChatReader(reading(), stream=True), [data])) == told(ANSWERS["calls"])


@pytest.mark.parametrize(
    ("reader", "data"),
    [
        (openai_in.ChatReader(reading(), stream=True), b'data: {"error": {"message": "too bad"}}\n\n'),
        (openai_in.ChatReader(reading(), stream=False), b'{"error": "too bad"}'),
        (openai_in.ChatReader(reading(), stream=True), b'data: {"choices": []}\n\n{"error": {"message": "too bad"}}\n'),
        (ollama_in.ChatReader(reading()), b'{"error": "too bad"}\n'),
    ],
)
def test_an_error_in_mid_stream_is_a_failure(reader: AnswerReader, data: bytes) -> None:
    with pytest.raises(UpstreamFailed, match="too bad"):
        read(reader, [data])


@pytest.mark.parametrize("data", [b"data: {\n\n", b"data: [1]\n\n", b'data: {"choices": 3}\n\n', b"data: \xff\n\n"])
def test_nonsense_is_no_answer(data: bytes) -> None:
    with pytest.raises(AtriumError):
        read(openai_in.ChatReader(reading(), stream=True), [data])
    with pytest.raises(AtriumError):
        read(ollama_in.ChatReader(reading()), [data.removeprefix(b"data: ")])


def test_arguments_that_are_no_object_are_told_as_an_error_unless_they_were_cut_off() -> None:
    begun, piece = CallBegun(0, 0, "call_a", "one"), CallPiece(0, 0, '{"x":')
    lines = AnswerLines(OllamaStamp("m", lambda: "now", lambda: 1.0), chat_members)
    assert lines.feed(begun) + lines.feed(piece) + lines.feed(Ended(0, Finish.LENGTH)) == b""
    lines = AnswerLines(OllamaStamp("m", lambda: "now", lambda: 1.0), chat_members)
    lines.feed(begun)
    lines.feed(piece)
    with pytest.raises(UpstreamFailed, match="one"):
        lines.feed(Ended(0, Finish.TOOL_CALLS))
