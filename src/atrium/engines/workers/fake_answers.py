"""What the fake endpoint says: completions and stream lines in OpenAI's and Ollama's words."""

from __future__ import annotations

from typing import Any

CREATED = 1767225600


def completion(model: str, text: str, tokens: int) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": tokens, "total_tokens": 3 + tokens}
    shown = {"id": "chatcmpl-fake", "object": "chat.completion", "created": CREATED, "model": model}
    return {**shown, "choices": [choice], "usage": usage}


def delta(model: str, word: str) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": word}, "finish_reason": None}
    shown = {"id": "chatcmpl-fake", "object": "chat.completion.chunk", "created": CREATED, "model": model}
    return {**shown, "choices": [choice]}


def ollama_line(model: str, word: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": word}
    return {"model": model, "created_at": "2026-01-01T00:00:00Z", "message": message, "done": False}


def last_line(model: str, text: str, tokens: int) -> dict[str, Any]:
    return {**ollama_line(model, text), "done": True, "prompt_eval_count": 3, "eval_count": tokens}
