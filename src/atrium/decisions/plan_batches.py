"""Which texts are embedded together."""

from __future__ import annotations

from collections.abc import Sequence

MOST_TEXTS = 64


def plan_batches(lengths: Sequence[int], *, most_tokens: int) -> tuple[tuple[int, ...], ...]:
    """Places of the texts, batch by batch; lengths in tokens.

    Neighbours in length go together, so that no short text waits for a long one. A batch stays within `most_tokens`
    unless a single text is longer.
    """
    batches: list[tuple[int, ...]] = []
    batch: list[int] = []
    tokens = 0
    for place in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if batch and (tokens + lengths[place] > most_tokens or len(batch) == MOST_TEXTS):
            batches.append(tuple(batch))
            batch, tokens = [], 0
        batch.append(place)
        tokens += lengths[place]
    if batch:
        batches.append(tuple(batch))
    return tuple(batches)
