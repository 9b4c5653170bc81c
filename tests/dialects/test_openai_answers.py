"""What becomes of an answer's events in OpenAI's words."""

from __future__ import annotations

import json
from typing import Any

from atrium.core.answers import Begun, Echo, Ended, Finish, Spent, TextPiece, Timing, TokenChance, TokenScore, Usage
from atrium.dialects.openai.answer import Collected
from atrium.dialects.openai.completions import CompletionStream, completion_body
from atrium.dialects.openai.stream import Stamp

STAMP = Stamp("cmpl-1", 1, "m", "fp")


def score(text: str) -> TokenScore:
    return TokenScore(TokenChance(text, text.encode(), -0.5), ())


def test_a_streams_offsets_are_those_of_the_whole_wherever_a_tokens_text_is_cut() -> None:
    # A stop string held a token's end back, so its text came in two pieces and its score with the second.
    events = [
        Begun(0),
        TextPiece(0, "The ", (score("The "),)),
        TextPiece(0, "se"),
        TextPiece(0, "a", (score("sea"),)),
        TextPiece(0, "!", (score("!"),)),
        Ended(0, Finish.STOP, None),
        Spent(Usage(1, 3), Timing()),
    ]
    stream, collected = CompletionStream(STAMP, echoes=[Echo()]), Collected()
    chunks: list[Any] = []
    for event in events:
        collected.feed(event)
        chunks += [json.loads(line[6:]) for line in stream.feed(event).decode().split("\n\n") if "{" in line]
    scored: list[Any] = [one["choices"][0]["logprobs"] for one in chunks if one["choices"][0]["logprobs"]]
    streamed = [offset for one in scored for offset in one["text_offset"]]
    whole = json.loads(completion_body(STAMP, collected, echoes=[Echo()], scored=True))
    assert streamed == whole["choices"][0]["logprobs"]["text_offset"] == [0, 4, 7]
