"""How an endpoint's answer is to be read, and what every reader of one has to do."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from atrium.core.answers import Ended, Event, Finish, TextPiece
from atrium.core.errors import UpstreamFailed
from atrium.core.requests import Constraint, JsonObject, JsonSchema


@dataclass(frozen=True, slots=True)
class Reading:
    choice: int
    call_id: Callable[[int], str]
    """Makes the id of a call that the endpoint gave none."""
    most_calls: int
    shape: Constraint
    """What the answer was to look like."""
    forced: Mapping[str, str] | None = None
    """The answer is a call, told as JSON: of the tool `name`, or of the one that it names itself."""


class AnswerReader(Protocol):
    """Fed bytes at any border, gives events; `ended` turns true with the last of them."""

    @property
    def ended(self) -> bool: ...

    def feed(self, data: bytes) -> list[Event]:
        """Raises UpstreamFailed for the endpoint's own error in mid stream, BadResponse for what cannot be read."""
        ...

    def close(self) -> list[Event]:
        """The body has come to its proper end. Raises UpstreamFailed when the answer has not."""
        ...


def broken_off() -> UpstreamFailed:
    return UpstreamFailed("The endpoint broke off in mid answer", hint="Ask again")


class ShapeCheck:
    """Holds a whole answer to the shape it was to have, before anybody sees it."""

    def __init__(self, shape: Constraint) -> None:
        self._shape = shape
        self._texts: list[str] = []

    def see(self, events: list[Event]) -> None:
        """Raises UpstreamFailed at the end of an answer that has another shape, unless it was cut off."""
        if not isinstance(self._shape, JsonObject | JsonSchema):
            return
        for event in events:
            if isinstance(event, TextPiece):
                self._texts.append(event.text)
            elif isinstance(event, Ended) and event.finish is Finish.STOP:
                self._check("".join(self._texts))

    def _check(self, text: str) -> None:
        try:
            value: Any = json.loads(text)
        except (ValueError, RecursionError):
            raise UpstreamFailed("The endpoint's answer is not the JSON that was asked for") from None
        if isinstance(self._shape, JsonObject):
            if not isinstance(value, dict):
                raise UpstreamFailed("The endpoint's answer is not the JSON object that was asked for")
            return
        schema: Any = getattr(self._shape, "schema", True)
        try:
            validator: Any = Draft202012Validator(schema)
            validator.validate(value)
        except ValidationError as wrong:
            message = f"The endpoint's answer does not fit the schema: {wrong.message[:300]}"
            raise UpstreamFailed(message) from None
        except RecursionError:
            return
