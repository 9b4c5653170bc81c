"""How a long text is worked through: what each call has room for, which strategy, how many calls at most.

Source: contract `lollms.md`, section 8. No call's prompt and answer together are more than the window.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from atrium.core.errors import ContextTooLong
from atrium.core.long_text import Strategy
from atrium.decisions.split_tokens import SHARED

EXACT_MARGIN, ESTIMATED_MARGIN = 0.02, 0.10
"""Shares of the window that stay free, since texts side by side are not cut into tokens as each alone."""
SHORTEST_NOTES, LONGEST_NOTES, NOTES_SHARE = 96, 1024, 64
LEAST_PART = 16
"""Tokens. With less room than that for the text there is no way."""
HEADING = 12
"""Tokens around each note among others."""
FEW = 8
"""Parts up to which a text can be gone through one after the other."""
MANY = 400
"""Parts above which a question is better answered from those that have to do with it."""
IN_ORDER = re.compile(
    r"\b(translat|rewrit|rephras|proofread|continue|chronolog|timeline|step[- ]by[- ]step|in order|storyline|plot\b)",
    re.IGNORECASE,
)
QUESTION = re.compile(r"\?\s*$|^\s*(who|what|when|where|which|why|how|find|quote|locate)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Room:
    """Tokens."""

    answer: int
    """Of the last call."""
    notes: int
    """That a call on the way may write."""
    whole: int
    """Text that fits into the last call."""
    part: int
    """Text that fits into a call on the way."""
    draft: int
    """That an answer on its way from part to part may have."""

    @property
    def step(self) -> int:
        """Text that fits beside such an answer, and leaves room to write it anew."""
        return self.part + self.notes - 2 * self.draft


def room_of(window: int, wanted: int, frame: int, *, exact: bool) -> Room:
    """`frame`: tokens of the longest instructions around a text. Raises ContextTooLong when they leave no room."""
    usable = window - frame - int(window * (EXACT_MARGIN if exact else ESTIMATED_MARGIN)) - 1
    notes = min(window // 4, LONGEST_NOTES, max(SHORTEST_NOTES, window // NOTES_SHARE))
    if usable - notes < max(LEAST_PART, 2 * notes):
        raise ContextTooLong(
            f"The prompt and its frame have {frame} tokens, but the model's window holds {window}",
            hint="Shorten the prompt or use a model with a larger window",
            param="prompt",
        )
    answer = max(1, min(wanted, window // 2, usable - 2 * (notes + HEADING)))
    return Room(answer, notes, usable - answer, usable - notes, min(answer, usable // 4))


def choose_strategy(tokens: int, room: Room, prompt: str) -> Strategy:
    if tokens <= room.whole:
        return Strategy.DIRECT
    parts = -(-tokens // room.part)
    if parts <= FEW and IN_ORDER.search(prompt):
        return Strategy.REFINE
    if parts > MANY and QUESTION.search(prompt):
        return Strategy.RETRIEVAL
    return Strategy.MAP_REDUCE


def most_calls(strategy: Strategy, parts: int, room: Room) -> int:
    """No way through the text takes more, repetitions of what failed aside."""
    if strategy in (Strategy.DIRECT, Strategy.RETRIEVAL):
        return 1
    if strategy is Strategy.REFINE:
        return parts
    calls, notes = parts + 1, parts
    while notes > 1 and notes * (room.notes + HEADING) > room.whole:
        notes = len(groups([room.notes] * notes, room.part))
        calls += notes
    return calls


def most_tokens(strategy: Strategy, text: int, calls: tuple[int, int], room: Room, frame: int) -> int:
    """Of all prompts and answers together, repetitions of what failed aside. `calls`: for the parts, and in all."""
    parts, total = calls
    last = frame + room.whole + room.answer
    if strategy is Strategy.DIRECT:
        return frame + text + room.answer
    if strategy is Strategy.RETRIEVAL:
        return last
    if strategy is Strategy.REFINE:
        return parts * (frame + room.step + 2 * room.draft)
    reading = text + parts * (frame + room.part // SHARED + 1 + room.notes)
    merging = (total - parts - 1) * (frame + room.part + room.notes)
    return reading + merging + last


def groups(lengths: Sequence[int], most: int) -> list[tuple[int, ...]]:
    """Places of neighbouring notes that fit into one call; two at least, so that there are fewer after it."""
    found: list[tuple[int, ...]] = []
    own: list[int] = []
    size = 0
    for place, length in enumerate(lengths):
        if len(own) >= 2 and size + length + HEADING > most:
            found.append(tuple(own))
            own, size = [], 0
        own.append(place)
        size += length + HEADING
    if own:
        found.append(tuple(own))
    return found
