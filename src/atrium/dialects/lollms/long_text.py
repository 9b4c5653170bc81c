"""`POST /lollms/v1/long_context_process`: what it takes and what it answers."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from atrium.core.errors import InvalidValue
from atrium.core.long_text import LongAnswer, LongText, Progress, Strategy
from atrium.dialects.bounds import RequestBounds
from atrium.dialects.lollms.request import read

MOST_TOKENS = 2**31 - 1
DEFAULT_TOKENS = 4096
DONE = b"data: [DONE]\n\n"
STRATEGIES = ("auto", *(one.value for one in Strategy))
Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class LongCall:
    asked: LongText
    stream: bool


def parse_long_text(raw: bytes, bounds: RequestBounds) -> LongCall:
    """Raises InvalidJson, InvalidValue."""
    fields = read(raw, bounds)
    text = fields.text("text")
    if text is None or not text.strip():
        raise InvalidValue("'text' is required and must not be blank", param="text")
    strategy = fields.one_of("strategy", STRATEGIES)
    asked = LongText(
        text=text,
        prompt=(fields.text("prompt") or "").strip(),
        model=fields.text("model") or "",
        max_tokens=fields.integer("max_generation_tokens", 1, MOST_TOKENS) or DEFAULT_TOKENS,
        strategy=None if strategy in (None, "auto") else Strategy(strategy),
    )
    return LongCall(asked, fields.flag("stream"))


def answer_object(answer: LongAnswer) -> Json:
    usage = answer.usage
    told: Json = {
        "result": answer.result,
        "model": answer.model,
        "strategy": answer.strategy.value,
        "chunks": answer.chunks,
        "calls": answer.calls,
        "usage": {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        },
    }
    if answer.read < answer.chunks:
        told["chunks_read"] = answer.read
    return told if answer.exact else told | {"exact": False}


def answer_body(answer: LongAnswer) -> bytes:
    return orjson.dumps(answer_object(answer))


def answer_event(answer: LongAnswer) -> bytes:
    return event({"type": "result", **answer_object(answer)})


def progress_event(progress: Progress) -> bytes:
    """The first one, of stage `plan`, tells how many calls there will be at most."""
    told: Json = {"type": "progress", "done": progress.done, "total": progress.total, "stage": progress.stage}
    return event(told | {"strategy": progress.strategy.value, "chunks": progress.chunks})


def event(told: Json) -> bytes:
    return b"data: " + orjson.dumps(told) + b"\n\n"
