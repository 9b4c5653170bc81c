"""Tool calls in a model's text: `<tool_call>{"name": …, "arguments": …}</tool_call>`, read as they come."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import cast

from atrium.core.answers import CallBegun, CallPiece, Event, TextPiece, TokenScore
from atrium.dialects.llamacpp.marks import CLOSE, OPEN
from atrium.dialects.stops import StopFinder

State = Callable[[str, Sequence[TokenScore], list[Event]], None]
HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=[{])')


class ObjectScanner:
    """Follows one JSON object through its text to its closing brace."""

    def __init__(self) -> None:
        self._depth = 0
        self._quoted = False
        self._escaped = False

    def take(self, text: str) -> int | None:
        """How many characters of `text` still belong to the object once it ends here; None while it goes on."""
        for index, character in enumerate(text):
            if self._quoted:
                self._quoted = self._escaped or character != '"'
                self._escaped = character == "\\" and not self._escaped
            elif character == '"':
                self._quoted = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if self._depth == 0:
                    return index + 1
        return None


class CallReader:
    """Text outside of calls stays text; a call becomes CallBegun and CallPieces.

    `call_id` makes the id of the call with that index.
    """

    def __init__(self, choice: int, call_id: Callable[[int], str]) -> None:
        self.calls = 0
        self._choice = choice
        self._call_id = call_id
        self._text = StopFinder((OPEN,))
        self._state: State = self._outside
        self._held = ""
        self._scanner = ObjectScanner()

    def feed(self, text: str, scores: Sequence[TokenScore] = ()) -> list[Event]:
        events: list[Event] = []
        self._state(text, scores, events)
        return events

    def flush(self) -> list[Event]:
        """What is left when the answer ends; a call that was never opened properly is text after all."""
        rest = self._text.flush().text if self._state == self._outside else ""
        if self._state == self._opening:
            rest = OPEN + self._held
        return [TextPiece(self._choice, rest)] if rest else []

    def _outside(self, text: str, scores: Sequence[TokenScore], events: list[Event]) -> None:
        found = self._text.feed(text, scores)
        # A line break between calls is ours, not the model's words.
        words = found.text if not (self.calls and not found.text.strip()) else ""
        if words:
            events.append(TextPiece(self._choice, words, found.scores))
        if found.stopped_by:
            rest = self._text.flush().text.removeprefix(OPEN)
            self._enter(self._opening, rest, events)

    def _opening(self, text: str, _: Sequence[TokenScore], events: list[Event]) -> None:
        self._held += text
        if head := HEAD.match(self._held):
            rest = self._held[head.end() :]
            events.append(CallBegun(self._choice, self.calls, self._call_id(self.calls), json.loads(head[1])))
            self._scanner = ObjectScanner()
            self._enter(self._arguments, rest, events)
        elif CLOSE in self._held:
            self._odd(events)

    def _arguments(self, text: str, _: Sequence[TokenScore], events: list[Event]) -> None:
        end = self._scanner.take(text)
        piece = text if end is None else text[:end]
        if piece:
            events.append(CallPiece(self._choice, self.calls, piece))
        if end is not None:
            self.calls += 1
            self._enter(self._closing, text[end:], events)

    def _closing(self, text: str, _: Sequence[TokenScore], events: list[Event]) -> None:
        self._held += text
        if CLOSE in self._held:
            self._enter(self._outside, self._held.split(CLOSE, 1)[1], events)

    def _odd(self, events: list[Event]) -> None:
        """A call whose members stand in another order, or no call at all."""
        inner, rest = self._held.split(CLOSE, 1)
        call = read_call(inner)
        if call is None:
            events.append(TextPiece(self._choice, OPEN + inner + CLOSE))
        else:
            name, arguments = call
            events.append(CallBegun(self._choice, self.calls, self._call_id(self.calls), name))
            events.append(CallPiece(self._choice, self.calls, arguments))
            self.calls += 1
        self._enter(self._outside, rest, events)

    def _enter(self, state: State, rest: str, events: list[Event]) -> None:
        self._state, self._held = state, ""
        if state == self._outside:
            self._text = StopFinder((OPEN,))
        if rest:
            state(rest, (), events)


def read_call(text: str) -> tuple[str, str] | None:
    """Name and arguments of a whole call; None when it is none."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    if not isinstance(value, dict):
        return None
    call = cast("dict[str, object]", value)
    name, arguments = call.get("name"), call.get("arguments", call.get("parameters", {}))
    if not isinstance(name, str) or not isinstance(arguments, dict):
        return None
    return name, json.dumps(arguments, ensure_ascii=False)
