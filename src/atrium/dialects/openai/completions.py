"""`/v1/completions`: `text_completion` objects, whole and streamed, with the old form of logprobs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import orjson

from atrium.core.answers import Begun, Echo, Ended, Event, Finish, Spent, TextPiece, TokenScore
from atrium.dialects.openai.answer import Collected
from atrium.dialects.openai.stream import DONE, Stamp, usage_object


def completion_body(stamp: Stamp, collected: Collected, *, echoes: Sequence[Echo], scored: bool) -> bytes:
    """`echoes`: for each choice what to put in front of it, empty when the caller wants no echo."""
    choices: list[dict[str, object]] = []
    for index, choice in sorted(collected.choices.items()):
        echo = echoes[index]
        choices.append(
            {
                "text": echo.text + "".join(choice.text),
                "index": index,
                "logprobs": logprobs_object(choice.scores, echo=echo) if scored else None,
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


def logprobs_object(scores: Sequence[TokenScore], start: int = 0, *, echo: Echo | None = None) -> dict[str, object]:
    """`start` is the offset of the first token in the text, in characters; of `echo`, if one is given, its end.

    The first token of an echo has nothing before it, so its chance is null.
    """
    first: list[str] = []
    if echo is not None and echo.scores is None:
        start = len(echo.text)
    elif echo is not None and echo.text:
        scores = [*(echo.scores or ()), *scores]
        first = [echo.text[: len(echo.text) - sum(len(s.chosen.token) for s in echo.scores or ())]]
    tokens = [*first, *(s.chosen.token for s in scores)]
    nothing: list[None] = [None] * len(first)
    return {
        "tokens": tokens,
        "token_logprobs": [*nothing, *(s.chosen.logprob for s in scores)],
        "top_logprobs": [*nothing, *({o.token: o.logprob for o in s.others} or None for s in scores)],
        "text_offset": [*accumulate(map(len, tokens[:-1]), initial=start)] if tokens else [],
    }


class CompletionStream:
    """Fed events, gives the bytes to send for each."""

    def __init__(self, stamp: Stamp, *, echoes: Sequence[Echo], include_usage: bool = False) -> None:
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
        self._lengths = [len(echo.text) for echo in echoes]

    def feed(self, event: Event) -> bytes:
        match event:
            case Begun(choice):
                return self._echo(choice, self._echoes[choice]) if self._echoes[choice].text else b""
            case TextPiece(choice, text, scores):
                return self._choice(choice, text, self._scored(choice, scores))
            case Ended(choice, finish):
                return self._choice(choice, "", None, finish)
            case Spent(usage):
                counted = self._head + b'],"usage":' + orjson.dumps(usage_object(usage)) + b"}\n\n"
                return (counted if self._include_usage else b"") + DONE
            case _:
                return b""

    def _echo(self, choice: int, echo: Echo) -> bytes:
        return self._choice(choice, echo.text, None if echo.scores is None else logprobs_object((), echo=echo))

    def _scored(self, choice: int, scores: Sequence[TokenScore]) -> dict[str, object] | None:
        if not scores:
            return None
        told = logprobs_object(scores, self._lengths[choice])
        self._lengths[choice] += sum(len(score.chosen.token) for score in scores)
        return told

    def _choice(
        self, choice: int, text: str, logprobs: dict[str, object] | None, finish: Finish | None = None
    ) -> bytes:
        reason = None if finish is None else finish.value
        one = {"text": text, "index": choice, "logprobs": logprobs, "finish_reason": reason}
        return self._head + orjson.dumps(one) + self._tail
