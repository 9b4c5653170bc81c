"""Cuts a text into parts that hold at most so many tokens, at the best place near each end.

Every character is in at least one part, in order; neighbours share a little, so that what stands at a cut is read
whole.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from atrium.core.errors import ContextTooLong
from atrium.decisions.split_text import BREAKS, whole_characters

LOOSE = 5
"""A part may be a fifth shorter than it could be for the sake of a better end."""
SHARED = 30
"""A thirtieth of a part is shared with the next one."""
Span = tuple[int, int]


def split_tokens(text: str, ends: Sequence[int], most: int) -> tuple[Span, ...]:
    """Begin and end of each part in characters.

    `ends` tells for each token how many characters there are up to its end; its last is the text's length. Raises
    ContextTooLong where a part could hold nothing.
    """
    if most < 1:
        raise ContextTooLong("The prompt leaves no room for the text", hint="Shorten the prompt", param="prompt")
    spans: list[Span] = []
    begin = 0
    while begin < len(text):
        first = bisect_right(ends, begin)
        if len(ends) - first <= most:
            spans.append((begin, len(text)))
            break
        hard = max(ends[first + most - 1], begin + 1)
        end = last_break(text, hard - (hard - begin) // LOOSE, hard)
        spans.append((begin, end))
        begin = following(text, ends, end, most // SHARED)
    return tuple(spans)


def last_break(text: str, least: int, hard: int) -> int:
    """The best place to end that is not before `least` and not behind `hard`."""
    for kind in BREAKS:
        found = list(kind.finditer(text, least, hard))
        if found:
            return found[-1].end()
    return max(least + 1, whole_characters(text, hard))


def following(text: str, ends: Sequence[int], end: int, shared: int) -> int:
    """Where the part behind `end` begins: at most `shared` tokens before it, at a line, a sentence or a word."""
    token = bisect_right(ends, end) - 1 - shared
    if token < 0 or not shared:
        return end
    earliest = ends[token]
    for kind in BREAKS[1:]:
        if found := kind.search(text, earliest, end):
            return found.end()
    return earliest
