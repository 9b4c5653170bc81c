"""The answers of `POST /v1/responses`: output items one after the other, and one event for each thing that happens.

A whole answer is the same object that ends a stream. Source: contract `openai.md`, section 6.
"""

from __future__ import annotations

from collections.abc import Mapping
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
from atrium.core.errors import AtriumError
from atrium.core.requests import JsonValue
from atrium.dialects.openai.stream import Stamp, score_object

Json = dict[str, object]
REPEATED: Mapping[str, JsonValue] = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
"""Fields of the request that its answer shows, with what stands for one that was not sent."""
PREFIXES = {"message": "msg", "reasoning": "rs", "function_call": "fc"}


@dataclass(slots=True)
class Output:
    """An item that is being written, or was."""

    kind: str
    id: str
    call_id: str = ""
    name: str = ""
    pieces: list[str] = field(default_factory=list[str])
    scores: list[TokenScore] = field(default_factory=list[TokenScore])
    status: str = "in_progress"

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def part(self) -> Json:
        if self.kind == "reasoning":
            return {"type": "reasoning_text", "text": self.text}
        scores = [score_object(one) for one in self.scores]
        return {"type": "output_text", "text": self.text, "annotations": [], "logprobs": scores}

    def told(self, *, bare: bool = False) -> Json:
        """`bare`: as it is announced, before anything is in it."""
        own: Json = {"id": self.id, "type": self.kind, "status": self.status}
        if self.kind == "function_call":
            return own | {"call_id": self.call_id, "name": self.name, "arguments": self.text}
        content = [] if bare else [self.part()]
        if self.kind == "reasoning":
            return own | {"summary": [], "content": content}
        return own | {"role": "assistant", "content": content}


class ResponseStream:
    """Fed events, gives the bytes to send for each; `told` is the object as it stands."""

    def __init__(self, stamp: Stamp, asked: Mapping[str, JsonValue]) -> None:
        self._stamp = stamp
        self._outputs: list[Output] = []
        self._number = 0
        self._status = "in_progress"
        self._finish = Finish.STOP
        self._usage: Usage | None = None
        self._error: AtriumError | None = None
        self._repeated = {
            name: default if asked.get(name) is None else asked[name] for name, default in REPEATED.items()
        }
        reasoning = asked.get("reasoning")
        effort = reasoning.get("effort") if isinstance(reasoning, dict) else None
        self._repeated["reasoning"] = {"effort": effort, "summary": None}

    def told(self) -> Json:
        stamp, cut = self._stamp, self._status == "incomplete"
        error = self._error
        return {
            "id": stamp.id,
            "object": "response",
            "created_at": stamp.created,
            "status": self._status,
            "background": False,
            "error": None if error is None else {"code": "server_error", "message": error.sentence},
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "model": stamp.model,
            "output": [one.told() for one in self._outputs],
            "previous_response_id": None,
            "conversation": None,
            "store": False,
            **self._repeated,
            "usage": None if self._usage is None else usage_object(self._usage),
            **({} if stamp.extension is None else {"atrium": stamp.extension}),
        }

    def feed(self, event: Event) -> bytes:
        match event:
            case TextPiece(_, text, scores):
                return self._written("message", text, scores)
            case Begun():
                return self._event("response.created", response=self.told()) + self._event(
                    "response.in_progress", response=self.told()
                )
            case ReasoningPiece(_, text):
                return self._written("reasoning", text, ())
            case CallBegun(_, _, call_id, name):
                return self._closed() + self._opened("function_call", call_id, name)
            case CallPiece(_, _, text):
                return self._piece(text, ())
            case Ended(_, finish):
                self._finish = finish
                return b""
            case Spent(usage):
                return self._ended(usage)

    def broken(self, error: AtriumError) -> bytes:
        """The last event of a stream that the model could not go on with."""
        self._status, self._error = "failed", error
        return self._event("response.failed", response=self.told())

    def _written(self, kind: str, text: str, scores: tuple[TokenScore, ...]) -> bytes:
        if not text and not scores:
            return b""
        last = self._outputs[-1] if self._outputs else None
        if last is not None and last.kind == kind and last.status == "in_progress":
            return self._piece(text, scores)
        return self._closed() + self._opened(kind) + self._piece(text, scores)

    def _opened(self, kind: str, call_id: str = "", name: str = "") -> bytes:
        number = len(self._outputs)
        output = Output(kind, f"{PREFIXES[kind]}_{self._stamp.id.removeprefix('resp_')}{number:02x}", call_id, name)
        self._outputs.append(output)
        told = self._event("response.output_item.added", output_index=number, item=output.told(bare=True))
        if kind == "function_call":
            return told
        return told + self._within("response.content_part.added", part=output.part())

    def _piece(self, text: str, scores: tuple[TokenScore, ...]) -> bytes:
        output = self._outputs[-1]
        output.pieces.append(text)
        output.scores += scores
        match output.kind:
            case "function_call":
                return self._within("response.function_call_arguments.delta", delta=text)
            case "reasoning":
                return self._within("response.reasoning_text.delta", delta=text)
            case _:
                own = [score_object(one) for one in scores]
                return self._within("response.output_text.delta", delta=text, logprobs=own)

    def _closed(self, status: str = "completed") -> bytes:
        """What the last item's end is told by."""
        if not self._outputs or self._outputs[-1].status != "in_progress":
            return b""
        output = self._outputs[-1]
        output.status = status
        match output.kind:
            case "function_call":
                done = self._within("response.function_call_arguments.done", arguments=output.text, name=output.name)
            case "reasoning":
                done = self._within("response.reasoning_text.done", text=output.text)
            case _:
                scores = [score_object(one) for one in output.scores]
                done = self._within("response.output_text.done", text=output.text, logprobs=scores)
        if output.kind != "function_call":
            done += self._within("response.content_part.done", part=output.part())
        number = len(self._outputs) - 1
        return done + self._event("response.output_item.done", output_index=number, item=output.told())

    def _ended(self, usage: Usage) -> bytes:
        self._usage = usage
        self._status = "incomplete" if self._finish is Finish.LENGTH else "completed"
        # An answer of nothing is a message all the same.
        opened = b"" if self._outputs else self._opened("message")
        return opened + self._closed(self._status) + self._event(f"response.{self._status}", response=self.told())

    def _within(self, kind: str, **members: object) -> bytes:
        """An event inside the last item."""
        output = self._outputs[-1]
        place: Json = {"item_id": output.id, "output_index": len(self._outputs) - 1}
        if output.kind != "function_call":
            place["content_index"] = 0
        return self._event(kind, **place, **members)

    def _event(self, kind: str, **members: object) -> bytes:
        number, self._number = self._number, self._number + 1
        told = orjson.dumps({"type": kind, "sequence_number": number, **members})
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), told)


def usage_object(usage: Usage) -> Json:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
