"""Words of a text as an index of words knows them, whatever they were written like."""

from __future__ import annotations

import re
import unicodedata

WORD = re.compile(r"[^\W_]+")
UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Scripts that are written without blanks between words: each character stands for itself."""
LONGEST = 64
MOST_TERMS = 64
"""Different terms of one query; what follows adds little and costs as much."""


def fold_text(text: str) -> str:
    """Lower-case words without marks, with one blank between them."""
    return " ".join(words(text))


def query_terms(text: str) -> tuple[str, ...]:
    """Each word once, in order. Nothing in them can be taken for the syntax of a query."""
    return tuple(dict.fromkeys(words(text)))[:MOST_TERMS]


def words(text: str) -> list[str]:
    plain = unicodedata.normalize("NFKD", text.casefold()).casefold()
    plain = "".join(c for c in plain if not unicodedata.combining(c)) if not plain.isascii() else plain
    spaced = UNSPACED.sub(r" \g<0> ", plain) if not plain.isascii() else plain
    return [word[:LONGEST] for word in WORD.findall(spaced)]
