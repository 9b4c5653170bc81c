"""Answers of an endpoint that speaks Ollama's API: lines of JSON, or one object. Unknown members are passed over."""

from __future__ import annotations

from array import array
from typing import Any

import msgspec
import orjson

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
    Timing,
    Usage,
)
from atrium.core.errors import BadResponse, UpstreamFailed
from atrium.dialects.lines import LineSplitter
from atrium.dialects.read_scores import Score, embedded, scores_of
from atrium.dialects.reading import Reading, broken_off

NANO = 1_000_000_000
LONGEST_REASON = 500


class Function(msgspec.Struct):
    name: str = ""
    arguments: msgspec.Raw = msgspec.Raw(b"{}")


class Call(msgspec.Struct):
    function: Function = msgspec.field(default_factory=Function)
    id: str | None = None


class Said(msgspec.Struct):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[Call] | None = None


class Line(msgspec.Struct):
    message: Said | None = None
    response: str | None = None
    thinking: str | None = None
    done: bool = False
    done_reason: str | None = None
    load_duration: int = 0
    prompt_eval_count: int = 0
    """Absent where the whole prompt was in the cache."""
    prompt_eval_duration: int = 0
    eval_count: int = 0
    eval_duration: int = 0
    logprobs: list[Score] | None = None
    context: list[int] | None = None
    error: Any = None


class ChatReader:
    """Of one choice, from `/api/chat` or `/api/generate`; a whole answer is a stream of one line."""

    def __init__(self, reading: Reading) -> None:
        self.ended = False
        self._reading = reading
        self._lines = LineSplitter()
        self._decoder = msgspec.json.Decoder(Line)
        self._begun = False
        self._calls = 0
        self._written: list[str] = []
        """The text of a call that the endpoint writes as JSON."""

    def feed(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        for line in self._lines.feed(data):
            self._line(line, events)
        return events

    def close(self) -> list[Event]:
        events: list[Event] = []
        if not self.ended:
            self._line(self._lines.flush(), events)
        if not self.ended:
            raise broken_off()
        return events

    def _line(self, text: bytes, events: list[Event]) -> None:
        if self.ended or not text.strip():
            return
        try:
            line = self._decoder.decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise BadResponse("The endpoint sent an answer that cannot be read") from None
        if line.error is not None:
            raise UpstreamFailed(f"The endpoint says: {str(line.error)[:LONGEST_REASON]}")
        self._read(line, events)
        if line.done:
            self._end(line, events)

    def _read(self, line: Line, events: list[Event]) -> None:
        number = self._reading.choice
        if not self._begun:
            self._begun = True
            events.append(Begun(number))
        said = line.message or Said(line.response, line.thinking)
        if said.thinking:
            events.append(ReasoningPiece(number, said.thinking))
        scores = scores_of(line.logprobs)
        if self._reading.forced is not None:
            self._written.append(said.content or "")
        elif said.content or scores:
            events.append(TextPiece(number, said.content or "", scores))
        for call in said.tool_calls or ():
            self._call(call, events)

    def _call(self, call: Call, events: list[Event]) -> None:
        if self._calls >= self._reading.most_calls:
            return
        number, index = self._reading.choice, self._calls
        self._calls += 1
        events.append(CallBegun(number, index, call.id or self._reading.call_id(index), call.function.name))
        events.append(CallPiece(number, index, arguments_text(bytes(call.function.arguments))))

    def _end(self, line: Line, events: list[Event]) -> None:
        self.ended = True
        finish = Finish.LENGTH if line.done_reason == "length" else Finish.STOP
        if self._reading.forced is not None:
            self._unfold(finish, events)
        if self._calls and finish is Finish.STOP:
            finish = Finish.TOOL_CALLS
        usage = Usage(line.prompt_eval_count, line.eval_count)
        timing = Timing(
            loaded=line.load_duration / NANO,
            prompt=line.prompt_eval_duration / NANO,
            generation=line.eval_duration / NANO,
        )
        events += [Ended(self._reading.choice, finish), Spent(usage, timing, tuple(line.context or ()))]

    def _unfold(self, finish: Finish, events: list[Event]) -> None:
        """The call that was written as JSON. Raises UpstreamFailed when it is none, unless it was cut off."""
        text = "".join(self._written)
        name = (self._reading.forced or {}).get("name", "")
        try:
            told = orjson.loads(text)
            if not name:
                name, told = str(told["name"]), told["arguments"]
            call = Call(Function(name, msgspec.Raw(orjson.dumps(told))))
        except (orjson.JSONDecodeError, KeyError, TypeError):
            if finish is Finish.LENGTH:
                return
            raise UpstreamFailed("The endpoint did not answer with the call that was asked for") from None
        self._call(call, events)


def arguments_text(raw: bytes) -> str:
    """An object as text; where an endpoint wrote the text itself, that."""
    if raw[:1] == b'"':
        return str(orjson.loads(raw))
    return "{}" if raw == b"null" else raw.decode("utf-8", "replace")


class Embeddings(msgspec.Struct):
    embeddings: list[list[float]]
    prompt_eval_count: int = 0


def embeddings_of(body: bytes, wanted: int) -> Embedded:
    """Raises BadResponse."""
    try:
        answer = msgspec.json.decode(body, type=Embeddings)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise BadResponse("The endpoint's vectors cannot be read") from None
    vectors = [array("f", numbers) for numbers in answer.embeddings]
    return embedded(vectors, wanted, answer.prompt_eval_count)


class Version(msgspec.Struct):
    version: str = ""


def version_of(body: bytes) -> tuple[int, ...]:
    """Numbers of an endpoint's version; empty for what is none."""
    try:
        told = msgspec.json.decode(body, type=Version).version
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ()
    numbers = told.partition("-")[0].split(".")
    return tuple(int(part) for part in numbers) if all(part.isdecimal() for part in numbers) else ()
