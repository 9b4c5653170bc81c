"""Chat chunks in the contract's order: role, deltas, finish, usage, `[DONE]`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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
    TokenChance,
    TokenScore,
    Usage,
)
from atrium.core.requests import JsonValue

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Stamp:
    """What is equal in every chunk of one answer."""

    id: str
    created: int
    """Unix seconds."""
    model: str
    fingerprint: str
    extension: Mapping[str, object] | None = None
    """What the member `atrium` says, of a whole answer and of the last chunks of a stream."""


class ChatStream:
    """Fed events, gives the bytes to send for each.

    The envelope is encoded once; a token costs one small encoding of its delta.
    """

    def __init__(self, stamp: Stamp, *, include_usage: bool = False, legacy: bool = False) -> None:
        head = {
            "id": stamp.id,
            "object": "chat.completion.chunk",
            "created": stamp.created,
            "model": stamp.model,
            "system_fingerprint": stamp.fingerprint,
        }
        self._head = b"data: " + orjson.dumps(head)[:-1] + b',"choices":['
        said = b"" if stamp.extension is None else b',"atrium":' + orjson.dumps(stamp.extension)
        self._tail = b'],"usage":null}\n\n' if include_usage else b"]}\n\n"
        self._last = self._tail.replace(b"}\n\n", said + b"}\n\n")
        self._end = said + b"}\n\n"
        self._include_usage = include_usage
        self._legacy = legacy

    def feed(self, event: Event) -> bytes:
        match event:
            case TextPiece(choice, text, scores):
                return self._delta(choice, {"content": text}, scores)
            case Begun(choice):
                return self._delta(choice, {"role": "assistant", "content": ""})
            case ReasoningPiece(choice, text):
                return self._delta(choice, {"reasoning_content": text})
            case CallBegun(choice, index, call_id, name):
                return self._call(choice, index, {"name": name, "arguments": ""}, call_id)
            case CallPiece(choice, index, text):
                return self._call(choice, index, {"arguments": text}, None)
            case Ended(choice, finish):
                return self._choice(choice, b"{}", None, finish_reason(finish, legacy=self._legacy))
            case Spent(usage):
                return self._usage(usage) + DONE

    def _delta(self, choice: int, delta: dict[str, JsonValue], scores: tuple[TokenScore, ...] = ()) -> bytes:
        logprobs = {"content": [score_object(s) for s in scores], "refusal": None} if scores else None
        return self._choice(choice, orjson.dumps(delta), logprobs, None)

    def _call(self, choice: int, index: int, function: dict[str, JsonValue], call_id: str | None) -> bytes:
        if self._legacy:
            return self._delta(choice, {"function_call": function})
        call: dict[str, JsonValue] = {"index": index, "function": function}
        if call_id is not None:
            call |= {"id": call_id, "type": "function"}
        return self._delta(choice, {"tool_calls": [call]})

    def _choice(self, choice: int, delta: bytes, logprobs: object, finish: str | None) -> bytes:
        reason = b"null" if finish is None else b'"%b"' % finish.encode()
        scores = b"null" if logprobs is None else orjson.dumps(logprobs)
        one = b'{"index":%d,"delta":%b,"logprobs":%b,"finish_reason":%b}' % (choice, delta, scores, reason)
        return self._head + one + (self._tail if finish is None else self._last)

    def _usage(self, usage: Usage) -> bytes:
        if not self._include_usage:
            return b""
        return self._head + b'],"usage":' + orjson.dumps(usage_object(usage)) + self._end


def finish_reason(finish: Finish, *, legacy: bool) -> str:
    return "function_call" if legacy and finish is Finish.TOOL_CALLS else finish.value


def usage_object(usage: Usage) -> dict[str, JsonValue]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def score_object(score: TokenScore) -> dict[str, object]:
    return {**chance_object(score.chosen), "top_logprobs": [chance_object(other) for other in score.others]}


def chance_object(chance: TokenChance) -> dict[str, object]:
    return {"token": chance.token, "logprob": chance.logprob, "bytes": list(chance.raw)}
