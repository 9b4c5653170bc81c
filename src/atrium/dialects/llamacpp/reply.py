"""From a runner's chunks to the events of one choice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from atrium.core.answers import (
    Begun,
    Ended,
    Event,
    Finish,
    ReasoningPiece,
    Spent,
    TextPiece,
    Timing,
    TokenChance,
    TokenScore,
    Usage,
)
from atrium.core.errors import EngineFailed
from atrium.core.requests import Tool
from atrium.dialects.llamacpp.calls import CallReader
from atrium.dialects.llamacpp.markups import Markup
from atrium.dialects.llamacpp.stream import Chunk, Prob
from atrium.dialects.stops import StopFinder
from atrium.dialects.thoughts import ReasoningReader


@dataclass(frozen=True, slots=True)
class Reading:
    """How to read one choice's text."""

    choice: int
    prompt_tokens: int
    """0: as the engine counts them, which knows how many a picture takes."""
    stops: tuple[str, ...] = ()
    calls: Markup | None = None
    """How tool calls look that may stand in the text."""
    tools: tuple[Tool, ...] = ()
    """That may be called."""
    forced: bool = False
    """The answer is nothing but calls."""
    reasons: bool = False
    """The model knows `<think>`."""
    thinking: bool = False
    """The prompt ends within an open `<think>`."""
    top_logprobs: int | None = None
    prompt: tuple[int, ...] | None = None
    """Token ids of the prompt, where the caller wants all ids at the end."""
    end_of_turn: int | None = None
    """The token that closes an answer."""


class ReplyReader:
    """Fed chunks, gives events; `ended` turns true with the last of them.

    When a stop string is met the stream is over although the engine would go on: close the connection.
    """

    def __init__(self, reading: Reading, call_id: Callable[[int], str]) -> None:
        self.ended = False
        self._reading = reading
        self._choice = reading.choice
        self._stops = StopFinder(reading.stops)
        self._thoughts = ReasoningReader(reasons=reading.reasons, thinking=reading.thinking)
        self._calls = (
            CallReader(reading.choice, call_id, reading.calls, reading.tools, forced=reading.forced)
            if reading.calls
            else None
        )
        self._plain = not (reading.stops or reading.calls or reading.reasons or reading.thinking)
        self._begun = False
        self._tokens = 0
        self._reasoning_tokens = 0
        self._ids: list[int] = []

    def feed(self, chunk: Chunk) -> list[Event]:
        events: list[Event] = []
        if not self._begun:
            self._begun = True
            events.append(Begun(self._choice))
        self._count(chunk)
        scores = self._scores(chunk) if chunk.completion_probabilities else ()
        if self._plain:
            if chunk.content:
                events.append(TextPiece(self._choice, chunk.content, scores))
        elif chunk.content or scores:
            released = self._stops.feed(chunk.content, scores)
            events += self._read(released.text, released.scores)
            if released.stopped_by:
                events += self._end(chunk, Finish.STOP, released.stopped_by)
                return events
        if chunk.stop:
            finish = Finish.LENGTH if chunk.stop_type == "limit" else Finish.STOP
            released = self._stops.flush()
            events += self._read(released.text, released.scores)
            events += self._end(chunk, finish, None)
        return events

    def broken(self) -> EngineFailed:
        """For a stream that ended before its last chunk."""
        return EngineFailed("The engine broke off in mid answer", hint="Ask again; its log says why")

    def _count(self, chunk: Chunk) -> None:
        if self._reading.prompt is not None:
            self._ids += chunk.tokens
        self._tokens = chunk.tokens_predicted or self._tokens + len(chunk.tokens)
        if self._thoughts.thinking:
            self._reasoning_tokens += len(chunk.tokens)

    def _read(self, text: str, scores: Sequence[TokenScore]) -> list[Event]:
        if not text and not scores:
            return []
        reasoning, answer = self._thoughts.feed(text)
        events: list[Event] = [ReasoningPiece(self._choice, reasoning)] if reasoning else []
        if answer or (scores and not reasoning and not self._thoughts.thinking):
            events += self._answer(answer, scores)
        return events

    def _answer(self, text: str, scores: Sequence[TokenScore] = ()) -> list[Event]:
        if self._calls is not None:
            return self._calls.feed(text, scores)
        return [TextPiece(self._choice, text, tuple(scores))] if text or scores else []

    def _end(self, chunk: Chunk, finish: Finish, stopped_by: str | None) -> list[Event]:
        reasoning, answer = self._thoughts.flush()
        events: list[Event] = [ReasoningPiece(self._choice, reasoning)] if reasoning else []
        events += self._answer(answer)
        if self._calls is not None:
            events += self._calls.flush(cut=finish is Finish.LENGTH)
            if self._calls.calls and finish is Finish.STOP:
                finish = Finish.TOOL_CALLS
        self.ended = True
        timings = chunk.timings
        cached = timings.cache_n if timings else 0
        prompt = self._reading.prompt_tokens or chunk.tokens_evaluated
        usage = Usage(prompt, self._tokens, cached, self._reasoning_tokens)
        took = Timing(
            prompt=timings.prompt_ms / 1000 if timings else 0.0,
            generation=timings.predicted_ms / 1000 if timings else 0.0,
            slot=None if chunk.id_slot < 0 else chunk.id_slot,
        )
        return [*events, Ended(self._choice, finish, stopped_by), Spent(usage, took, self._context(finish))]

    def _context(self, finish: Finish) -> tuple[int, ...]:
        """Prompt and answer as token ids, the answer closed as the next turn needs it."""
        if self._reading.prompt is None:
            return ()
        end = self._reading.end_of_turn
        closing = () if end is None or finish is Finish.LENGTH or self._ids[-1:] == [end] else (end,)
        return (*self._reading.prompt, *self._ids, *closing)

    def _scores(self, chunk: Chunk) -> tuple[TokenScore, ...]:
        """Of tokens that are text; the one that ends the answer is none."""
        most = self._reading.top_logprobs or 0
        return tuple(
            TokenScore(chance_of(prob), tuple(chance_of(other) for other in prob.top_logprobs[:most]))
            for prob in chunk.completion_probabilities
            if prob.bytes
        )


def chance_of(prob: Prob) -> TokenChance:
    return TokenChance(prob.token, bytes(prob.bytes), prob.logprob)
