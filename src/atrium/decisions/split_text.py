"""Cuts a text into chunks that overlap, at the best place near each end: paragraph, line, sentence, word."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from atrium.core.documents import Chunk, Page

BREAKS = (
    re.compile(r"\n\s*\n"),
    re.compile(r"\n"),
    re.compile(r"(?<=[.!?…])\s+|(?<=[。！？])"),
    re.compile(r"\s+"),
)
"""Best first. A chunk ends behind the last break of the best kind in the second half of what it may hold."""


def split_text(text: str, size: int, overlap: int, pages: Sequence[Page] = ()) -> tuple[Chunk, ...]:
    """Chunks of at most `size` characters in order, without blanks at their ends; each character that is no blank is
    in at least one. `overlap` is less than `size`.

    A chunk begins on a word where the overlap has a blank. It never leaves its page, so that what is found in it is
    found on the page that is cited.
    """
    chunks: list[Chunk] = []
    for number, begin, end in parts(text, pages):
        for start, stop in spans(text[begin:end], size, min(overlap, size // 2)):
            chunks.append(Chunk(begin + start, begin + stop, text[begin + start : begin + stop], number))
    return tuple(chunks)


def parts(text: str, pages: Sequence[Page]) -> Iterator[tuple[int | None, int, int]]:
    """Number, start and end of each page, together the whole text: what stands between two is the former's."""
    if not pages:
        yield None, 0, len(text)
    starts = [0, *(page.start for page in pages[1:]), len(text)]
    for page, (start, end) in zip(pages, pairwise(starts), strict=False):
        yield page.number, start, end


def spans(text: str, size: int, overlap: int) -> Iterator[tuple[int, int]]:
    begin = skip_blanks(text, 0)
    while begin < len(text):
        end = end_of(text, begin, size)
        # What is shared is never more than half a chunk, or a short one before many blanks would come again and again.
        trimmed = begin + len(text[begin:end].rstrip())
        yield begin, trimmed
        if end >= len(text):
            return
        following = skip_blanks(text, end)
        if following >= len(text):
            return
        shared = min(overlap, (trimmed - begin) // 2)
        begin = word_start(text, trimmed - shared, following) if shared else following


def skip_blanks(text: str, place: int) -> int:
    while place < len(text) and text[place].isspace():
        place += 1
    return place


def end_of(text: str, begin: int, size: int) -> int:
    """Where a chunk that begins at `begin` ends, its blanks at the end included."""
    hard = begin + size
    if hard >= len(text):
        return len(text)
    window = text[begin + size // 2 : hard]
    for kind in BREAKS:
        found = list(kind.finditer(window))
        if found:
            return begin + size // 2 + found[-1].end()
    return whole_characters(text, hard)


def whole_characters(text: str, place: int) -> int:
    """Not between a letter and the marks that belong to it; a joined emoji stays whole where that is near."""
    for back in range(place, max(place - 16, 0), -1):
        if text[back] not in JOINERS and not is_mark(text[back]) and text[back - 1] != ZERO_WIDTH_JOINER:
            return back
    return place


ZERO_WIDTH_JOINER = "\u200d"
JOINERS = frozenset(ZERO_WIDTH_JOINER + "\ufe0f\ufe0e")


def is_mark(character: str) -> bool:
    code = ord(character)
    return 0x0300 <= code <= 0x036F or 0x1F3FB <= code <= 0x1F3FF


def word_start(text: str, place: int, limit: int) -> int:
    """The first start of a word from `place` on, or `place` itself where there is no blank before `limit`."""
    if place >= limit or text[place - 1].isspace():
        return skip_blanks(text, place)
    for near in range(place, limit):
        if text[near].isspace():
            return skip_blanks(text, near)
    return place
