"""Which passages have most to do with a question, by its words (BM25)."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

WORD = re.compile(r"\w+")
SATURATION, LENGTH_SHARE = 1.2, 0.75


def rank_passages(passages: Sequence[str], question: str) -> tuple[int, ...]:
    """Places, best first; equals in their order."""
    wanted = frozenset(words(question))
    counts = [Counter(word for word in words(passage) if word in wanted) for passage in passages]
    lengths = [max(1, len(passage)) for passage in passages]
    mean = sum(lengths) / max(1, len(lengths))
    having = Counter(word for count in counts for word in count)
    rarity = {word: math.log(1 + (len(passages) - n + 0.5) / (n + 0.5)) for word, n in having.items()}

    def score(place: int) -> float:
        long = SATURATION * (1 - LENGTH_SHARE + LENGTH_SHARE * lengths[place] / mean)
        return sum(rarity[word] * n * (SATURATION + 1) / (n + long) for word, n in counts[place].items())

    return tuple(sorted(range(len(passages)), key=lambda place: -score(place)))


def words(text: str) -> list[str]:
    return [word.casefold() for word in WORD.findall(text)]
