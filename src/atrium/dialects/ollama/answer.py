"""Answers as Ollama's clients read them: one JSON object per line, or one for the whole.

Times are integers of nanoseconds. Source: contract `ollama.md`, sections 1 to 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import orjson

from atrium.core.answers import (
    CallBegun,
    CallPiece,
    Ended,
    Event,
    Finish,
    ReasoningPiece,
    Spent,
    TextPiece,
    TokenChance,
    TokenScore,
)
from atrium.core.errors import AtriumError, UpstreamFailed

Json = dict[str, Any]
NANO = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Stamp:
    """What an answer says of itself. The clocks are the caller's, since nothing here may look at one."""

    model: str
    now: Callable[[], str]
    """This moment, RFC 3339 in UTC."""
    elapsed: Callable[[], float]
    """Seconds since the request came."""


@dataclass(slots=True)
class Said:
    """What one object says, or a whole answer."""

    text: list[str] = field(default_factory=list[str])
    thinking: list[str] = field(default_factory=list[str])
    calls: list[Json] = field(default_factory=list[Json])
    scores: list[TokenScore] = field(default_factory=list[TokenScore])


def chat_members(said: Said) -> Json:
    message: Json = {"role": "assistant", "content": "".join(said.text)}
    if said.thinking:
        message["thinking"] = "".join(said.thinking)
    if said.calls:
        message["tool_calls"] = said.calls
    return {"message": message}


def generate_members(said: Said) -> Json:
    members: Json = {"response": "".join(said.text)}
    if said.thinking:
        members["thinking"] = "".join(said.thinking)
    return members


Members = Callable[[Said], Json]


class CallGatherer:
    """Puts the pieces of calls together: a call is told whole or not at all, once the answer ends."""

    def __init__(self) -> None:
        self._calls: dict[int, tuple[CallBegun, list[str]]] = {}

    def feed(self, event: CallBegun | CallPiece) -> None:
        if isinstance(event, CallBegun):
            self._calls[event.index] = (event, [])
        elif event.index in self._calls:
            self._calls[event.index][1].append(event.text)

    def flush(self, finish: Finish) -> list[Json]:
        """Raises UpstreamFailed for arguments that are no object, unless the answer was cut off in their midst."""
        told: list[Json] = []
        for begun, pieces in self._calls.values():
            try:
                arguments = orjson.loads("".join(pieces) or "{}")
            except orjson.JSONDecodeError:
                arguments = None
            if isinstance(arguments, dict):
                function: Json = {"index": len(told), "name": begun.name, "arguments": cast("Json", arguments)}
                told.append({"id": begun.id, "function": function})
            elif finish is not Finish.LENGTH:
                raise UpstreamFailed(f"The model called '{begun.name[:100]}' with arguments that are no JSON object")
        return told


class AnswerLines:
    """Fed events, gives the lines to send for each. Only the first choice is Ollama's to tell."""

    def __init__(self, stamp: Stamp, members: Members, *, hides_thinking: bool = False) -> None:
        self._stamp = stamp
        self._members = members
        self._hides_thinking = hides_thinking
        self._calls = CallGatherer()
        self._finish = Finish.STOP

    def feed(self, event: Event) -> bytes:
        match event:
            case TextPiece(_, text, scores):
                return self._line(Said([text], scores=list(scores)))
            case ReasoningPiece(_, text):
                return b"" if self._hides_thinking else self._line(Said(thinking=[text]))
            case CallBegun() | CallPiece():
                self._calls.feed(event)
                return b""
            case Ended(_, finish):
                self._finish = finish
                return b"".join(self._line(Said(calls=[call])) for call in self._calls.flush(finish))
            case Spent():
                return line(final_object(self._stamp, self._members(Said()), event, self._finish))
            case _:
                return b""

    def _line(self, said: Said) -> bytes:
        told: Json = {"model": self._stamp.model, "created_at": self._stamp.now(), **self._members(said), "done": False}
        if said.scores:
            told["logprobs"] = scores_of(said.scores)
        return line(told)


class WholeAnswer:
    """Fed every event of an answer; gives the one object once `Spent` has come."""

    def __init__(self, stamp: Stamp, members: Members, *, hides_thinking: bool = False) -> None:
        self._stamp = stamp
        self._members = members
        self._hides_thinking = hides_thinking
        self._calls = CallGatherer()
        self._said = Said()
        self._finish = Finish.STOP
        self.body = b""

    def feed(self, event: Event) -> None:
        said = self._said
        match event:
            case TextPiece(_, text, scores):
                said.text.append(text)
                said.scores += scores
            case ReasoningPiece(_, text):
                if not self._hides_thinking:
                    said.thinking.append(text)
            case CallBegun() | CallPiece():
                self._calls.feed(event)
            case Ended(_, finish):
                self._finish = finish
                said.calls += self._calls.flush(finish)
            case Spent():
                told = final_object(self._stamp, self._members(said), event, self._finish)
                if said.scores:
                    told["logprobs"] = scores_of(said.scores)
                self.body = orjson.dumps(told)
            case _:
                pass


def final_object(stamp: Stamp, members: Json, spent: Spent, finish: Finish) -> Json:
    told: Json = {"model": stamp.model, "created_at": stamp.now(), **members, "done": True}
    told["done_reason"] = "length" if finish is Finish.LENGTH else "stop"
    if spent.context:
        told["context"] = list(spent.context)
    usage, timing = spent.usage, spent.timing
    return told | {
        "total_duration": nanoseconds(stamp.elapsed()),
        "load_duration": nanoseconds(timing.loaded),
        "prompt_eval_count": usage.prompt_tokens,
        "prompt_eval_duration": nanoseconds(timing.prompt),
        "eval_count": usage.completion_tokens,
        "eval_duration": nanoseconds(timing.generation),
    }


def nanoseconds(seconds: float) -> int:
    """Never 0: whatever was done took some time, and clients divide by it."""
    return max(1, round(seconds * NANO))


def wordless_body(stamp: Stamp, members: Members, reason: str) -> bytes:
    """The answer to who only wanted the model loaded (`load`) or unloaded (`unload`)."""
    told: Json = {"model": stamp.model, "created_at": stamp.now(), **members(Said()), "done": True}
    return orjson.dumps(told | {"done_reason": reason})


def scores_of(scores: Sequence[TokenScore]) -> list[Json]:
    return [{**chance(one.chosen), "top_logprobs": [chance(other) for other in one.others]} for one in scores]


def chance(one: TokenChance) -> Json:
    return {"token": one.token, "logprob": one.logprob, "bytes": list(one.raw)}


def line(told: Json) -> bytes:
    return orjson.dumps(told) + b"\n"


def error_line(error: AtriumError) -> bytes:
    """The last line of a stream that broke; none with `done` follows."""
    return line({"error": error.sentence})
