"""Finding strings in a text that comes in pieces, and never letting a part of one out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from atrium.core.answers import TokenScore


@dataclass(frozen=True, slots=True)
class Released:
    text: str
    scores: tuple[TokenScore, ...]
    stopped_by: str | None = None


class StopFinder:
    """Holds back a tail that may begin a stop string; a score leaves together with the end of its token."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self._scores: list[tuple[int, TokenScore]] = []

    def feed(self, text: str, scores: Sequence[TokenScore] = ()) -> Released:
        if not self._stops:
            return Released(text, tuple(scores))
        self._held += text
        self._scores += [(len(self._held), score) for score in scores]
        found = [(at, stop) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            at, stop = min(found, key=lambda one: one[0])
            return self._release(at, stop)
        return self._release(len(self._held) - self._tail())

    def flush(self) -> Released:
        """All that is left, once the text has ended."""
        return self._release(len(self._held))

    def _tail(self) -> int:
        """Length of the longest end of the text that is the beginning of a stop string."""
        most = max(len(stop) for stop in self._stops) - 1
        for length in range(min(most, len(self._held)), 0, -1):
            end = self._held[-length:]
            if any(stop.startswith(end) for stop in self._stops):
                return length
        return 0

    def _release(self, length: int, stopped_by: str | None = None) -> Released:
        text, self._held = self._held[:length], self._held[length:]
        scores = tuple(score for end, score in self._scores if end <= length)
        self._scores = [(end - length, score) for end, score in self._scores if end > length]
        return Released(text, scores, stopped_by)
