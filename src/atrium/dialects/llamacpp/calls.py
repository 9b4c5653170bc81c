"""Tool calls in a model's text, in the markup of its template, read as they come."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import cast

from atrium.core.answers import CallBegun, CallPiece, Event, TextPiece, TokenScore
from atrium.core.requests import Tool
from atrium.dialects.llamacpp.elements import begun_call, end_of_calls, read_calls
from atrium.dialects.llamacpp.markups import HERMES, Markup
from atrium.dialects.stops import StopFinder

State = Callable[[str, Sequence[TokenScore], list[Event]], None]
BEGINNING = '{"name":"'
"""Of a call that nothing stands before, without white space."""


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

    `call_id` makes the id of the call with that index; `tools` tell the types of arguments that do not tell their own;
    `forced`: there is nothing but calls to come.
    """

    def __init__(
        self,
        choice: int,
        call_id: Callable[[int], str],
        markup: Markup = HERMES,
        tools: Sequence[Tool] = (),
        *,
        forced: bool = False,
    ) -> None:
        self.calls = 0
        self._choice = choice
        self._call_id = call_id
        self._markup = markup
        self._tools = tools
        self._forced = forced
        self._text = StopFinder((markup.mark,) if markup.mark else ())
        self._state: State = self._outside if markup.mark else self._beginning
        self._held = ""
        self._scores: tuple[TokenScore, ...] = ()
        self._scanner = ObjectScanner()

    def feed(self, text: str, scores: Sequence[TokenScore] = ()) -> list[Event]:
        events: list[Event] = []
        self._state(text, scores, events)
        return events

    def flush(self, *, cut: bool = False) -> list[Event]:
        """What is left when the answer ends; a call that was never opened properly is text after all.

        `cut`: it did not end by itself. Then what began as a call is none of its words, and of a call that is read when
        it is whole there is what was written.
        """
        if cut and self._state == self._opening:
            begun = begun_call(self._held, self._tools) if self._markup.elements else None
            return self._called(*begun) if begun else []
        if cut and (self._forced or self.calls):
            # What is held back then is the beginning of a mark.
            return []
        rest = self._text.flush().text if self._state == self._outside else ""
        if self._state in (self._opening, self._beginning):
            rest = self._markup.mark + self._held
        return [TextPiece(self._choice, rest, self._scores)] if rest else []

    def _outside(self, text: str, scores: Sequence[TokenScore], events: list[Event]) -> None:
        found = self._text.feed(text, scores)
        # A line break between calls is ours, not the model's words.
        words = found.text if not (self.calls and not found.text.strip()) else ""
        if words:
            events.append(TextPiece(self._choice, words, found.scores))
        if found.stopped_by:
            rest = self._text.flush().text.removeprefix(self._markup.mark)
            self._enter(self._opening, rest, events)

    def _beginning(self, text: str, scores: Sequence[TokenScore], events: list[Event]) -> None:
        """Nothing but its first characters tells a call from a text."""
        self._held += text
        self._scores += tuple(scores)
        start = self._held.removeprefix(self._markup.optional).lstrip()
        if self._markup.optional.startswith(self._held) or BEGINNING.startswith("".join(start.split())):
            return
        held, scores, self._scores = self._held, self._scores, ()
        if start.startswith("{") and "".join(start.split()).startswith(BEGINNING):
            self._enter(self._opening, start, events)
        else:
            self._state, self._held = self._outside, ""
            self._outside(held, scores, events)

    def _opening(self, text: str, _: Sequence[TokenScore], events: list[Event]) -> None:
        self._held += text
        if head := self._markup.pattern.match(self._held):
            rest = self._held[head.end() :]
            events.append(CallBegun(self._choice, self.calls, self._call_id(self.calls), self._markup.name_in(head)))
            self._scanner = ObjectScanner()
            self._enter(self._arguments, rest, events)
        elif self._markup.last:
            # Of a long call only what is new is looked through.
            end = self._end(max(0, len(self._held) - len(text) - len(self._markup.last)))
            if end >= 0:
                self._odd(end, events)

    def _end(self, start: int) -> int:
        last = self._markup.last
        return end_of_calls(self._held, last, start) if self._markup.elements else self._held.find(last, start)

    def _arguments(self, text: str, _: Sequence[TokenScore], events: list[Event]) -> None:
        end = self._scanner.take(text)
        piece = text if end is None else text[:end]
        if piece:
            events.append(CallPiece(self._choice, self.calls, piece))
        if end is not None:
            self.calls += 1
            self._enter(self._closing, text[end:], events)

    def _closing(self, text: str, _: Sequence[TokenScore], events: list[Event]) -> None:
        """Behind the arguments: another call, the end of the row, or for a row without an end the text behind it."""
        self._held += text
        markup = self._markup
        another = markup.tail + markup.between
        if not markup.marked_each and self._held.startswith(another):
            self._enter(self._opening, self._held.removeprefix(another), events)
        elif markup.last and markup.last in self._held:
            self._enter(self._outside, self._held.split(markup.last, 1)[1], events)
        elif not markup.last and not another.startswith(self._held):
            self._enter(self._outside, self._held.removeprefix(markup.tail), events)

    def _odd(self, end: int, events: list[Event]) -> None:
        """Calls that are read when they are whole, a call whose members stand in another order, or no call at all."""
        inner, rest = self._held[:end], self._held[end + len(self._markup.last) :]
        calls = read_calls(inner, self._tools) if self._markup.elements else []
        one = None if calls else read_call(inner)
        if not calls and one is None:
            events.append(TextPiece(self._choice, self._markup.mark + inner + self._markup.last))
        for name, arguments in calls or ([one] if one else []):
            events += self._called(name, arguments)
            self.calls += 1
        self._enter(self._outside, rest, events)

    def _called(self, name: str, arguments: str) -> list[Event]:
        begun = CallBegun(self._choice, self.calls, self._call_id(self.calls), name)
        return [begun, CallPiece(self._choice, self.calls, arguments)]

    def _enter(self, state: State, rest: str, events: list[Event]) -> None:
        self._state, self._held = state, ""
        if state == self._outside:
            self._text = StopFinder((self._markup.mark,) if self._markup.mark else ())
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
