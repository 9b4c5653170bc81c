"""`/v1/completions`: `text_completion` objects, whole and streamed, with the old form of logprobs."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from atrium.core.answers import Begun, Ended, Event, Finish, Spent, TextPiece, TokenScore
from atrium.dialects.openai.answer import Collected
from atrium.dialects.openai.stream import DONE, Stamp, usage_object


def completion_body(stamp: Stamp, collected: Collected, *, echoes: Sequence[str], scored: bool) -> bytes:
    """`echoes`: for each choice the text to put in front of it, empty when the caller wants no echo."""
    choices: list[dict[str, object]] = []
    for index, choice in sorted(collected.choices.items()):
        echo = echoes[index]
        choices.append(
            {
                "text": echo + "".join(choice.text),
                "index": index,
                "logprobs": logprobs_object(choice.scores, len(echo)) if scored else None,
                "finish_reason": choice.finish.value,
            }
        )
    return orjson.dumps(
        {
            "id": stamp.id,
            "object": "text_completion",
            "created": stamp.created,
            "model": stamp.model,
            "system_fingerprint": stamp.fingerprint,
            "choices": choices,
            "usage": usage_object(collected.usage),
        }
    )


def logprobs_object(scores: Sequence[TokenScore], start: int) -> dict[str, object]:
    """`start` is the offset of the first token in the text, in characters."""
    offsets: list[int] = []
    for score in scores:
        offsets.append(start)
        start += len(score.chosen.token)
    return {
        "tokens": [s.chosen.token for s in scores],
        "token_logprobs": [s.chosen.logprob for s in scores],
        "top_logprobs": [{o.token: o.logprob for o in s.others} or None for s in scores],
        "text_offset": offsets,
    }


class CompletionStream:
    """Fed events, gives the bytes to send for each."""

    def __init__(self, stamp: Stamp, *, echoes: Sequence[str], include_usage: bool = False) -> None:
        head = {
            "id": stamp.id,
            "object": "text_completion",
            "created": stamp.created,
            "model": stamp.model,
            "system_fingerprint": stamp.fingerprint,
        }
        self._head = b"data: " + orjson.dumps(head)[:-1] + b',"choices":['
        self._tail = b'],"usage":null}\n\n' if include_usage else b"]}\n\n"
        self._include_usage = include_usage
        self._echoes = echoes
        self._lengths = [len(echo) for echo in echoes]

    def feed(self, event: Event) -> bytes:
        match event:
            case Begun(choice):
                return self._choice(choice, self._echoes[choice]) if self._echoes[choice] else b""
            case TextPiece(choice, text, scores):
                return self._choice(choice, text, scores)
            case Ended(choice, finish):
                return self._choice(choice, "", (), finish)
            case Spent(usage):
                counted = self._head + b'],"usage":' + orjson.dumps(usage_object(usage)) + b"}\n\n"
                return (counted if self._include_usage else b"") + DONE
            case _:
                return b""

    def _choice(self, choice: int, text: str, scores: Sequence[TokenScore] = (), finish: Finish | None = None) -> bytes:
        one: dict[str, object] = {"text": text, "index": choice, "logprobs": None, "finish_reason": None}
        if scores:
            one["logprobs"] = logprobs_object(scores, self._lengths[choice])
            self._lengths[choice] += len(text)
        if finish is not None:
            one["finish_reason"] = finish.value
        return self._head + orjson.dumps(one) + self._tail
