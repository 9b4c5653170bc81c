"""Whole answers: events are collected per choice and rendered as one JSON object."""

from __future__ import annotations

from dataclasses import dataclass, field

import orjson

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
    TokenScore,
    Usage,
)
from atrium.dialects.openai.stream import Stamp, finish_reason, score_object, usage_object


@dataclass(slots=True)
class Call:
    id: str
    name: str
    pieces: list[str] = field(default_factory=list[str])

    def function(self) -> dict[str, object]:
        return {"name": self.name, "arguments": "".join(self.pieces)}


@dataclass(slots=True)
class Choice:
    text: list[str] = field(default_factory=list[str])
    reasoning: list[str] = field(default_factory=list[str])
    calls: list[Call] = field(default_factory=list[Call])
    scores: list[TokenScore] = field(default_factory=list[TokenScore])
    finish: Finish = Finish.STOP


@dataclass(slots=True)
class Collected:
    """Fed every event of an answer; whole once `Spent` has come."""

    choices: dict[int, Choice] = field(default_factory=dict[int, Choice])
    usage: Usage = Usage()

    def feed(self, event: Event) -> None:
        if isinstance(event, Spent):
            self.usage = event.usage
            return
        choice = self.choices.setdefault(event.choice, Choice())
        match event:
            case TextPiece(_, text, scores):
                choice.text.append(text)
                choice.scores += scores
            case ReasoningPiece(_, text):
                choice.reasoning.append(text)
            case CallBegun(_, _, call_id, name):
                choice.calls.append(Call(call_id, name))
            case CallPiece(_, index, text):
                choice.calls[index].pieces.append(text)
            case Ended(_, finish):
                choice.finish = finish
            case Begun():
                pass


def chat_body(stamp: Stamp, collected: Collected, *, scored: bool = False, legacy: bool = False) -> bytes:
    """`scored`: the caller asked for logprobs, so the member is there even when the text is empty."""
    choices = [
        {
            "index": index,
            "message": message_object(choice, legacy=legacy),
            "logprobs": {"content": [score_object(s) for s in choice.scores], "refusal": None} if scored else None,
            "finish_reason": finish_reason(choice.finish, legacy=legacy),
        }
        for index, choice in sorted(collected.choices.items())
    ]
    return orjson.dumps(
        {
            "id": stamp.id,
            "object": "chat.completion",
            "created": stamp.created,
            "model": stamp.model,
            "system_fingerprint": stamp.fingerprint,
            "choices": choices,
            "usage": usage_object(collected.usage),
            **({} if stamp.extension is None else {"atrium": stamp.extension}),
        }
    )


def message_object(choice: Choice, *, legacy: bool) -> dict[str, object]:
    text = "".join(choice.text)
    message: dict[str, object] = {"role": "assistant", "content": text if text or not choice.calls else None}
    message["refusal"] = None
    if choice.reasoning:
        message["reasoning_content"] = "".join(choice.reasoning)
    if choice.calls and legacy:
        message["function_call"] = choice.calls[0].function()
    elif choice.calls:
        message["tool_calls"] = [{"id": c.id, "type": "function", "function": c.function()} for c in choice.calls]
    return message
