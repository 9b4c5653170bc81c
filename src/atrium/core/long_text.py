"""A text that is longer than a model's window, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from atrium.core.answers import Usage
from atrium.core.requests import Tuning


class Strategy(Enum):
    """How a text is worked through."""

    DIRECT = "direct"
    """It fits: one call."""
    MAP_REDUCE = "map_reduce"
    """Notes of every part side by side, merged, then one answer from the notes."""
    REFINE = "refine"
    """Part by part in order, each time with the answer so far."""
    RETRIEVAL = "retrieval"
    """Only the parts that have most to do with the question."""


@dataclass(frozen=True, slots=True)
class LongText:
    """What is asked."""

    text: str
    prompt: str = ""
    """Empty: a summary is wanted."""
    model: str = ""
    max_tokens: int = 4096
    """Of the answer; less where the model's window is small."""
    strategy: Strategy | None = None
    """None: chosen by size and prompt."""
    tuning: Tuning = field(default_factory=Tuning)
    """How the model is to be run for it."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Calls that have ended, of all that there will be at most."""

    done: int
    total: int
    stage: str
    """`plan`, `map`, `merge`, `refine` or `answer`."""
    strategy: Strategy
    chunks: int


@dataclass(frozen=True, slots=True)
class LongAnswer:
    result: str
    model: str
    strategy: Strategy
    chunks: int
    """Parts that the text was cut into."""
    read: int
    """Parts that were sent to the model."""
    calls: int
    usage: Usage
    exact: bool
    """Tokens were counted by the model's own tokenizer."""


@dataclass(frozen=True, slots=True)
class Written:
    """One whole answer of a model."""

    text: str
    usage: Usage
