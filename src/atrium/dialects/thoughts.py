"""Thoughts that a model writes into its answer: split from it, wherever the text is cut into pieces."""

from __future__ import annotations

from atrium.core.answers import Ended, Event, ReasoningPiece, TextPiece
from atrium.dialects.reading import AnswerReader
from atrium.dialects.stops import StopFinder

THINK = "<think>"
THOUGHT = "</think>"


class ReasoningReader:
    """Splits a leading `<think>…</think>` from the answer."""

    def __init__(self, *, reasons: bool, thinking: bool) -> None:
        self.opening = reasons and not thinking
        """What has come may be the beginning of a thought."""
        self._end = StopFinder((THOUGHT,)) if thinking else None
        self._held = ""
        self._fresh = thinking
        """No word of the answer has come since the thoughts ended: blank lines between the two are neither's."""

    @property
    def thinking(self) -> bool:
        return self._end is not None

    @property
    def over(self) -> bool:
        """Whatever comes now is the answer."""
        return not self.opening and self._end is None and not self._fresh

    def feed(self, text: str) -> tuple[str, str]:
        """(reasoning, answer) of this piece."""
        if self.opening:
            self._held += text
            start = self._held.lstrip()
            if THINK.startswith(start):
                return "", ""
            self.opening = False
            text, self._held = self._held, ""
            if not start.startswith(THINK):
                return "", text
            self._end = StopFinder((THOUGHT,))
            self._fresh = True
            text = start[len(THINK) :]
        if self._end is None:
            return "", self._trimmed(text)
        found = self._end.feed(text)
        if not found.stopped_by:
            return found.text, ""
        answer = self._end.flush().text.removeprefix(THOUGHT)
        self._end = None
        return found.text, self._trimmed(answer)

    def flush(self) -> tuple[str, str]:
        if self._end is not None:
            return self._end.flush().text, ""
        return "", self._held

    def _trimmed(self, answer: str) -> str:
        if self._fresh:
            answer = answer.lstrip("\n")
            self._fresh = not answer
        return answer


class ThoughtfulReader:
    """Of an endpoint that leaves its model's thoughts in the answer; one that splits them itself is read as it is.

    Log probabilities of what turns out to be a thought are not told, since none are of thoughts.
    """

    def __init__(self, reader: AnswerReader, choice: int) -> None:
        self._reader = reader
        self._choice = choice
        self._thoughts = ReasoningReader(reasons=True, thinking=False)
        self._held: list[TextPiece] = []
        """Pieces of which nobody knows yet whether they are a thought."""

    @property
    def ended(self) -> bool:
        return self._reader.ended

    def feed(self, data: bytes) -> list[Event]:
        return self._split(self._reader.feed(data))

    def close(self) -> list[Event]:
        return self._split(self._reader.close())

    def _split(self, events: list[Event]) -> list[Event]:
        if self._thoughts.over:
            return events
        split: list[Event] = []
        for event in events:
            if isinstance(event, TextPiece):
                self._read(event, split)
                continue
            if isinstance(event, Ended):
                self._end(split)
            split.append(event)
        return split

    def _read(self, piece: TextPiece, split: list[Event]) -> None:
        self._held.append(piece)
        reasoning, answer = self._thoughts.feed(piece.text)
        if self._thoughts.opening:
            return
        held, self._held = self._held, []
        if self._thoughts.over and answer == "".join(one.text for one in held):
            split += held
            return
        self._tell(reasoning, answer, split)

    def _end(self, split: list[Event]) -> None:
        split += self._held
        if not self._held:
            self._tell(*self._thoughts.flush(), split)

    def _tell(self, reasoning: str, answer: str, split: list[Event]) -> None:
        if reasoning:
            split.append(ReasoningPiece(self._choice, reasoning))
        if answer:
            split.append(TextPiece(self._choice, answer))
