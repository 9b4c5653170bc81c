"""Answers of an endpoint that speaks OpenAI's API, whole and streamed. Unknown members are passed over."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any, cast

import msgspec

from atrium.core.answers import (
    Begun,
    CallBegun,
    CallPiece,
    Embedded,
    Ended,
    Event,
    Finish,
    ReasoningPiece,
    Spent,
    TextPiece,
    TokenChance,
    TokenScore,
    Usage,
)
from atrium.core.errors import BadResponse, UpstreamFailed
from atrium.dialects.lines import LineSplitter
from atrium.dialects.read_scores import Score, embedded, scores_of
from atrium.dialects.reading import Reading, broken_off

FINISHES = {"length": Finish.LENGTH, "tool_calls": Finish.TOOL_CALLS, "function_call": Finish.TOOL_CALLS}
DONE = b"[DONE]"
LONGEST_REASON = 500


class Scores(msgspec.Struct):
    content: list[Score] | None = None


class Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class Call(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: Function = msgspec.field(default_factory=Function)


class Part(msgspec.Struct):
    text: str | None = None
    thinking: str | list[Part] | None = None


class Said(msgspec.Struct):
    """A message, or what a chunk adds to one."""

    content: str | list[Part] | None = None
    """Some endpoints give parts, thoughts among them."""
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[Call] | None = None
    function_call: Function | None = None


class Choice(msgspec.Struct):
    index: int = 0
    message: Said | None = None
    delta: Said | None = None
    text: str | None = None
    logprobs: Any = None
    finish_reason: str | None = None


class Details(msgspec.Struct):
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class Counts(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: Details | None = None
    completion_tokens_details: Details | None = None


class Chunk(msgspec.Struct):
    choices: list[Choice] = []
    usage: Counts | None = None
    error: Any = None


class ChatReader:
    """Of one choice. `stream`: the body is an event stream, else one object."""

    def __init__(self, reading: Reading, *, stream: bool) -> None:
        self.ended = False
        self._reading = reading
        self._stream = stream
        self._lines = LineSplitter()
        self._decoder = msgspec.json.Decoder(Chunk)
        self._begun = False
        self._calls: dict[int, int] = {}
        """The endpoint's number of each call, and ours."""
        self._hidden: set[int] = set()
        self._finish: Finish | None = None
        self._usage: Usage | None = None
        self._pieces = 0

    def feed(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        if not self._stream:
            self._lines.feed(data.replace(b"\n", b" "))
            return events
        for line in self._lines.feed(data):
            if self.ended:
                break
            self._line(line, events)
        return events

    def close(self) -> list[Event]:
        """An endpoint may leave out the closing mark; without a reason to finish the answer is not whole."""
        events: list[Event] = []
        if self.ended:
            return events
        rest = self._lines.flush()
        if not self._stream:
            self._event(rest, events)
        else:
            self._line(rest, events)
        if not self.ended:
            self._end(events)
        return events

    def _line(self, line: bytes, events: list[Event]) -> None:
        """Some endpoints answer a stream with one whole object, or break it off with an error as a bare line."""
        if line.startswith(b"data:"):
            self._event(line[5:].strip(), events)
        elif line.startswith(b"{"):
            self._event(line, events)

    def _event(self, text: bytes, events: list[Event]) -> None:
        if text == DONE:
            self._end(events)
            return
        try:
            chunk = self._decoder.decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise BadResponse("The endpoint sent an answer that cannot be read") from None
        if chunk.error is not None:
            raise UpstreamFailed(f"The endpoint says: {reason_of(chunk.error)}")
        if chunk.usage is not None:
            self._usage = usage_of(chunk.usage)
        for choice in chunk.choices:
            if choice.index == 0:
                self._read(choice, events)

    def _read(self, choice: Choice, events: list[Event]) -> None:
        number = self._reading.choice
        if not self._begun:
            self._begun = True
            events.append(Begun(number))
        said = choice.delta or choice.message
        if said is not None:
            thoughts = said.reasoning_content or said.reasoning or thoughts_in(said.content)
            if thoughts:
                self._pieces += 1
                events.append(ReasoningPiece(number, thoughts))
        text = choice.text if said is None else text_in(said.content) or said.refusal
        scores = told_scores(choice.logprobs)
        if text or scores:
            self._pieces += 1
            events.append(TextPiece(number, text or "", scores))
        if said is not None:
            for position, call in enumerate(said.tool_calls or ()):
                self._call(position, call, events)
            if said.function_call is not None:
                self._call(0, Call(0, None, said.function_call), events)
        if choice.finish_reason is not None:
            self._finish = FINISHES.get(choice.finish_reason, Finish.STOP)

    def _call(self, position: int, call: Call, events: list[Event]) -> None:
        own = position if call.index is None else call.index
        if own in self._hidden:
            return
        number = self._reading.choice
        if own not in self._calls:
            if len(self._calls) >= self._reading.most_calls:
                self._hidden.add(own)
                return
            index = self._calls[own] = len(self._calls)
            name = call.function.name or ""
            events.append(CallBegun(number, index, call.id or self._reading.call_id(index), name))
        if call.function.arguments:
            events.append(CallPiece(number, self._calls[own], call.function.arguments))

    def _end(self, events: list[Event]) -> None:
        if self._finish is None:
            raise broken_off()
        self.ended = True
        finish = Finish.TOOL_CALLS if self._calls and self._finish is Finish.STOP else self._finish
        # An endpoint that counts nothing leaves the pieces to be counted, each of which is about a token.
        usage = self._usage or Usage(completion_tokens=self._pieces)
        events += [Ended(self._reading.choice, finish), Spent(usage)]


def text_in(content: str | list[Part] | None) -> str:
    return "".join(part.text or "" for part in content) if isinstance(content, list) else content or ""


def thoughts_in(content: str | list[Part] | None) -> str:
    return "".join(text_in(part.thinking) for part in content) if isinstance(content, list) else ""


def usage_of(counts: Counts) -> Usage:
    prompt, answer = counts.prompt_tokens_details, counts.completion_tokens_details
    return Usage(
        counts.prompt_tokens or 0,
        counts.completion_tokens or 0,
        (prompt.cached_tokens or 0) if prompt else 0,
        (answer.reasoning_tokens or 0) if answer else 0,
    )


def told_scores(told: Any) -> tuple[TokenScore, ...]:
    """Of chats, and in the older form of completions; none where neither is there."""
    if not isinstance(told, dict):
        return ()
    if "tokens" in told:
        return old_scores(told)
    try:
        return scores_of(msgspec.convert(told, Scores).content)
    except msgspec.ValidationError:
        return ()


class OldScores(msgspec.Struct):
    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None = None


def old_scores(told: Any) -> tuple[TokenScore, ...]:
    try:
        old = msgspec.convert(told, OldScores)
    except msgspec.ValidationError:
        return ()
    tops = old.top_logprobs or [None] * len(old.tokens)
    return tuple(
        TokenScore(plain_chance(token, chance or 0.0), tuple(plain_chance(*one) for one in (top or {}).items()))
        for token, chance, top in zip(old.tokens, old.token_logprobs, tops, strict=False)
    )


def plain_chance(token: str, logprob: float) -> TokenChance:
    return TokenChance(token, token.encode(), logprob)


def reason_of(error: Any) -> str:
    """The words of an error in whatever shape it has."""
    message = cast("dict[str, Any]", error).get("message", error) if isinstance(error, dict) else error
    return str(message)[:LONGEST_REASON]


class Embedding(msgspec.Struct):
    index: int = 0
    embedding: bytes | list[float] = b""
    """Base64 of little-endian float32, which msgspec decodes, or numbers."""


class Embeddings(msgspec.Struct):
    data: list[Embedding]
    usage: Counts | None = None


def embeddings_of(body: bytes, wanted: int) -> Embedded:
    """Raises BadResponse."""
    try:
        answer = msgspec.json.decode(body, type=Embeddings)
        in_order = sorted(answer.data, key=lambda one: one.index)
        vectors = [vector_of(one.embedding) for one in in_order]
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError):
        raise BadResponse("The endpoint's vectors cannot be read") from None
    return embedded(vectors, wanted, (answer.usage.prompt_tokens or 0) if answer.usage else 0)


def vector_of(told: bytes | Sequence[float]) -> array[float]:
    """Raises ValueError for bytes that are no numbers."""
    vector = array("f")
    if isinstance(told, bytes):
        vector.frombytes(told)
    else:
        vector.extend(told)
    return vector
