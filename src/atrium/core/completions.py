"""Answers that are kept because their caller asked for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class KeptCompletion:
    id: str
    owner: int | None
    """Id of the user; None for the anonymous user of an open door."""
    created: int
    """Unix seconds."""
    model: str
    answer: bytes
    """The answer as its dialect's JSON object."""
    messages: bytes
    """What was asked, as a JSON list of messages."""
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class CompletionQuery:
    """Which of an owner's completions, and in which order."""

    model: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    """Each of these must be there."""
    after: str = ""
    before: str = ""
    newest_first: bool = False
    most: int = 20


@dataclass(frozen=True, slots=True)
class CompletionPage:
    kept: tuple[KeptCompletion, ...]
    has_more: bool
