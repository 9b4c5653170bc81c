"""What comes back, in words that no dialect owns. Every event belongs to one choice, counted from 0."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, Self

import msgspec


class Finish(Enum):
    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"


@dataclass(frozen=True, slots=True)
class TokenChance:
    """A token with the natural logarithm of its chance in the model's raw distribution."""

    token: str
    raw: bytes
    """The token's bytes, possibly not whole UTF-8."""
    logprob: float


@dataclass(frozen=True, slots=True)
class TokenScore:
    chosen: TokenChance
    others: tuple[TokenChance, ...] = ()
    """The most likely tokens at this place, best first, as many as were asked for."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds, as measured, and what the runner was busy with for it."""

    queued: float = 0.0
    """The wait for a slot."""
    loaded: float = 0.0
    """The wait for the model to be ready."""
    prompt: float = 0.0
    generation: float = 0.0
    evicted: tuple[str, ...] = ()
    """Models that were stopped so that this one could be loaded for the request."""
    slot: int | None = None
    """Number of the runner's slot; None where it did not tell."""


@dataclass(frozen=True, slots=True)
class Begun:
    """The choice's generation holds a slot and its first token is on the way."""

    choice: int
    timing: Timing = Timing()
    """The waits that are over; all else is known at the end."""


@dataclass(frozen=True, slots=True)
class TextPiece:
    """Whole characters. `scores` are of the tokens that ended in this piece, empty unless asked for."""

    choice: int
    text: str
    scores: tuple[TokenScore, ...] = ()


@dataclass(frozen=True, slots=True)
class ReasoningPiece:
    choice: int
    text: str


@dataclass(frozen=True, slots=True)
class CallBegun:
    """A tool call starts; `index` counts the calls of this choice from 0."""

    choice: int
    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class CallPiece:
    """A piece of the call's arguments, which joined are one JSON object."""

    choice: int
    index: int
    text: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The choice is complete; sent exactly once per choice, after all its pieces."""

    choice: int
    finish: Finish
    stopped_by: str | None = None
    """The stop string that was met, if one was."""


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens by the model's own tokenizer, template included. The prompt counts once whatever the choices."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0


NO_USAGE = Usage()


@dataclass(frozen=True, slots=True)
class Spent:
    """The last event of a whole answer."""

    usage: Usage
    timing: Timing = Timing()
    context: tuple[int, ...] = ()
    """Token ids of prompt and answer, where they were asked for."""


ChoiceEvent = Begun | TextPiece | ReasoningPiece | CallBegun | CallPiece | Ended
Event = ChoiceEvent | Spent


class EventStream(Protocol):
    """Events as they come. Whoever has one closes it, also when it was never read: that gives everything back.

    A plain async generator would not do: closing one that was never started runs none of its code.
    """

    def __aiter__(self) -> Self: ...

    async def __anext__(self) -> Event: ...

    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Echo:
    """A prompt as text; without any, it shows nothing."""

    text: str = ""
    scores: tuple[TokenScore, ...] | None = None
    """Of its tokens but the first, which has nothing before it; their texts end the text. None: not asked for."""


@dataclass(frozen=True, slots=True)
class Events:
    """An answer that Atrium renders itself.

    The first byte is here when this object exists, so nothing may be retried. `events` must be closed
    (`contextlib.aclosing`); closing it early cancels the generation and gives the slot back. A failure in mid answer
    is raised from it as an AtriumError: such an answer has no `Ended` and must not be shown as whole.
    """

    model: str
    """The name as the caller wrote it, or the default's."""
    fingerprint: str
    """Names the model file and engine settings; equal fingerprints and seeds give equal text."""
    events: EventStream
    dropped: tuple[str, ...] = ()
    """What this model could not honour and does no harm by its absence, beside what the request names itself."""
    truncated: int = 0
    """Turns of the conversation that were dropped since it did not fit, as the caller allowed."""
    echoes: tuple[Echo, ...] = ()
    """The prompts, in their order, where the caller wants them in front."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors in input order as the model made them, and the tokens of all inputs together."""

    vectors: list[array[float]]
    tokens: int


@dataclass(frozen=True, slots=True)
class Vectors:
    model: str
    vectors: tuple[bytes, ...]
    """One per input, in order: little-endian float32, unit length."""
    usage: Usage
    timing: Timing = Timing()
