"""What a fake endpoint answers, in OpenAI's wire and in Ollama's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, cast

import orjson

CREATED = 1767225600
Json = dict[str, Any]
MOMENT = "2026-01-01T00:00:00Z"
ARGUMENTS = {"city": "Paris", "days": 2}
PROMPT_TOKENS = 3
WINDOW = 8192


@dataclass(frozen=True, slots=True)
class Piece:
    text: str = ""
    thought: str = ""
    tool: str = ""
    """Name of a tool that is called with `ARGUMENTS`."""


ALOUD = tuple(Piece(text) for text in ("<thi", "nk>let me ", "think</th", "ink>\n", "\n"))
"""Thoughts of a model whose endpoint does not split them from the answer."""


def answer_of(asked: Json, words: list[str]) -> list[Piece]:
    """Thoughts where they were asked for, then calls, JSON of the wanted shape, or the words."""
    thinks = asked.get("think") not in (None, False) or asked.get("reasoning_effort") not in (None, "none")
    pieces = [Piece(thought="let me "), Piece(thought="think")] if thinks else []
    tools: list[Json] = asked.get("tools") or []
    messages: list[Json] = asked.get("messages") or []
    question = str(messages[-1].get("content")) if messages else ""
    shape = asked.get("format") or asked.get("response_format")
    if tools and "call" in question:
        return [*pieces, *(Piece(tool=tool["function"]["name"]) for tool in tools)]
    if shape and "odd" not in question:
        return [*pieces, *(Piece(text) for text in halves(orjson.dumps(fitting(shape)).decode()))]
    return [*pieces, *(Piece(word) for word in words)]


def halves(text: str) -> list[str]:
    return [text[: len(text) // 2], text[len(text) // 2 :]]


def fitting(shape: Any) -> Any:
    """A value of a simple schema."""
    if not isinstance(shape, dict):
        return {"any": "thing"}
    given = cast("Json", shape)
    schema: Json = given.get("json_schema", {}).get("schema") or given
    if "anyOf" in schema:
        return fitting(schema["anyOf"][0])
    if "const" in schema:
        return schema["const"]
    kinds: dict[str, Any] = {"string": "Paris", "integer": 2, "number": 2.5, "boolean": True, "array": []}
    kind = str(schema.get("type", "object"))
    if kind in kinds:
        return kinds[kind]
    properties: Json = schema.get("properties", {})
    return {name: fitting(inner) for name, inner in properties.items()}


class Wire(Protocol):
    streams: bool
    """Unless the request says otherwise."""
    media_type: str

    def chunk(self, piece: Piece, *, last: bool) -> bytes: ...
    def end(self, pieces: list[Piece]) -> bytes: ...
    def failure(self, message: str) -> bytes: ...
    def whole(self, pieces: list[Piece]) -> Json: ...
    def vectors(self) -> Json: ...


def shown() -> Json:
    """What an Ollama server tells of any of its models."""
    info = {"general.architecture": "fake", "general.parameter_count": 10**9}
    return {
        "modified_at": MOMENT,
        "template": "{{ .Prompt }}",
        "parameters": "",
        "details": {"format": "gguf", "family": "fake", "families": ["fake"], "parameter_size": "1B"},
        "model_info": {**info, "fake.context_length": WINDOW, "fake.embedding_length": 2},
        "capabilities": ["completion", "tools", "thinking", "vision"],
    }


def inputs_of(asked: Json) -> list[Any]:
    given: Any = asked.get("input", asked.get("prompt", ""))
    return cast("list[Any]", given) if isinstance(given, list) else [given]


class OpenAiWire:
    streams = False
    media_type = "text/event-stream"

    def __init__(self, path: str, asked: Json) -> None:
        self._asked = asked
        self._plain = path.endswith("/completions") and "chat" not in path
        self._head = {"id": "chatcmpl-fake", "created": CREATED, "model": asked.get("model", "")}
        self._calls = 0

    def chunk(self, piece: Piece, *, last: bool) -> bytes:
        finish = self._finish([piece]) if last else None
        if self._plain:
            return self._event({"index": 0, "text": piece.text, "finish_reason": finish})
        delta: Json = {"reasoning_content": piece.thought} if piece.thought else {"content": piece.text}
        if not piece.tool:
            return self._event({"index": 0, "delta": delta, "finish_reason": finish})
        fragments = halves(orjson.dumps(ARGUMENTS).decode())
        call = {"index": self._calls, "id": f"fake_{self._calls}", "type": "function"}
        first = {**call, "function": {"name": piece.tool, "arguments": fragments[0]}}
        second = {"index": self._calls, "function": {"arguments": fragments[1]}}
        self._calls += 1
        return self._event({"index": 0, "delta": {"tool_calls": [first]}, "finish_reason": None}) + self._event(
            {"index": 0, "delta": {"tool_calls": [second]}, "finish_reason": finish}
        )

    def end(self, pieces: list[Piece]) -> bytes:
        counted = b""
        options: Json = self._asked.get("stream_options") or {}
        if options.get("include_usage"):
            counted = b"data: " + orjson.dumps({**self._head, "choices": [], "usage": self._usage(pieces)}) + b"\n\n"
        return counted + b"data: [DONE]\n\n"

    def failure(self, message: str) -> bytes:
        return b"data: " + orjson.dumps({"error": {"message": message, "code": 500}}) + b"\n\n"

    def whole(self, pieces: list[Piece]) -> Json:
        text = "".join(piece.text for piece in pieces)
        choice: Json = {"index": 0, "finish_reason": self._finish(pieces)}
        if self._plain:
            choice["text"] = text
        else:
            message: Json = {"role": "assistant", "content": text}
            thoughts = "".join(piece.thought for piece in pieces)
            message |= {"reasoning_content": thoughts} if thoughts else {}
            calls = [piece for piece in pieces if piece.tool]
            arguments = orjson.dumps(ARGUMENTS).decode()
            if calls:
                message["tool_calls"] = [
                    {"id": f"fake_{i}", "type": "function", "function": {"name": c.tool, "arguments": arguments}}
                    for i, c in enumerate(calls)
                ]
            choice["message"] = message
        kind = "text_completion" if self._plain else "chat.completion"
        return {**self._head, "object": kind, "choices": [choice], "usage": self._usage(pieces)}

    def vectors(self) -> Json:
        inputs = inputs_of(self._asked)
        data = [{"object": "embedding", "index": i, "embedding": [0.6, 0.8]} for i in range(len(inputs))]
        usage = {"prompt_tokens": 2 * len(inputs), "total_tokens": 2 * len(inputs)}
        return {"object": "list", "data": data, "model": self._asked.get("model"), "usage": usage}

    def _event(self, choice: Json) -> bytes:
        told = {**self._head, "object": "chat.completion.chunk", "choices": [choice]}
        return b"data: " + orjson.dumps(told) + b"\n\n"

    def _finish(self, pieces: list[Piece]) -> str:
        return "tool_calls" if any(piece.tool for piece in pieces) else "stop"

    def _usage(self, pieces: list[Piece]) -> Json:
        tokens = len(pieces)
        total = PROMPT_TOKENS + tokens
        return {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": tokens, "total_tokens": total}


class OllamaWire:
    streams = True
    media_type = "application/x-ndjson"

    def __init__(self, path: str, asked: Json) -> None:
        self._asked = asked
        self._path = path

    def chunk(self, piece: Piece, *, last: bool) -> bytes:  # noqa: ARG002 - OpenAI's wire marks its last
        return orjson.dumps(self._object([piece], done=False)) + b"\n"

    def end(self, pieces: list[Piece]) -> bytes:
        return orjson.dumps({**self._object([], done=True), **self._counts(pieces)}) + b"\n"

    def failure(self, message: str) -> bytes:
        return orjson.dumps({"error": message}) + b"\n"

    def whole(self, pieces: list[Piece]) -> Json:
        return {**self._object(pieces, done=True), **self._counts(pieces)}

    def vectors(self) -> Json:
        inputs = inputs_of(self._asked)
        if self._path.endswith("/embeddings"):
            return {"embedding": [0.6, 0.8]}
        vectors = [[0.6, 0.8] for _ in inputs]
        return {"model": self._asked.get("model"), "embeddings": vectors, "prompt_eval_count": 2 * len(inputs)}

    def _object(self, pieces: list[Piece], *, done: bool) -> Json:
        told: Json = {"model": self._asked.get("model", ""), "created_at": MOMENT}
        text = "".join(piece.text for piece in pieces)
        thoughts = "".join(piece.thought for piece in pieces)
        thinking: Json = {"thinking": thoughts} if thoughts else {}
        if self._path.endswith("/generate"):
            return {**told, "response": text, **thinking, "done": done}
        message: Json = {"role": "assistant", "content": text, **thinking}
        calls = [{"function": {"name": piece.tool, "arguments": ARGUMENTS}} for piece in pieces if piece.tool]
        if calls:
            message["tool_calls"] = calls
        return {**told, "message": message, "done": done}

    def _counts(self, pieces: list[Piece]) -> Json:
        durations = {"total_duration": 9000, "load_duration": 1000, "prompt_eval_duration": 2000, "eval_duration": 3000}
        return {"done_reason": "stop", "prompt_eval_count": PROMPT_TOKENS, "eval_count": len(pieces), **durations}
