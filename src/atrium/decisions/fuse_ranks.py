"""Joins several ranked lists into one by reciprocal rank: Cormack, Clarke and Büttcher, SIGIR 2009."""

from __future__ import annotations

from collections.abc import Sequence

from atrium.core.documents import Scored

SMOOTHING = 60
"""The constant of the paper: how little the very first ranks stand out."""


def fuse_ranks(rankings: Sequence[Sequence[Scored]]) -> tuple[Scored, ...]:
    """Best first; equal scores keep the order in which they were first seen."""
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, one in enumerate(ranking, start=1):
            scores[one.chunk_id] = scores.get(one.chunk_id, 0.0) + 1 / (SMOOTHING + rank)
    ordered = sorted(scores.items(), key=lambda pair: -pair[1])
    return tuple(Scored(chunk_id, score) for chunk_id, score in ordered)
