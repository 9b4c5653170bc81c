"""Finding in a document store: by meaning, by words, or by both."""

from __future__ import annotations

from dataclasses import dataclass

from atrium.core.document_ports import Shelf
from atrium.core.documents import Found, Mode, Query, Scored, Store
from atrium.core.errors import InvalidValue
from atrium.core.people import Caller
from atrium.core.requests import Embed
from atrium.core.trails import Trail
from atrium.decisions.fold_text import query_terms
from atrium.decisions.fuse_ranks import fuse_ranks
from atrium.services.metered import Embeddings

NEAR_PERCENT = 50.0
"""Least similarity of what is found by its vector, where nothing is said; what holds the very words needs none."""
DEEPER = 4
"""How many times `top_k` candidates each way brings to a fusion."""
LEAST_CANDIDATES = 50
MOST_CANDIDATES = 4096
"""As many as sqlite-vec gives."""


@dataclass(frozen=True, slots=True)
class SearchStore:
    shelf: Shelf
    embed: Embeddings
    longest: int
    """Characters of a query."""

    async def within(self, store: Store, query: Query, caller: Caller, trail: Trail) -> tuple[Found, ...]:
        """In a store that the caller may read, best first. Raises InvalidValue, and what embedding raises."""
        if not query.text.strip():
            raise InvalidValue("'query' is empty", param="query")
        if len(query.text) > self.longest:
            raise InvalidValue(f"'query' has more than {self.longest} characters", param="query")
        vector = await self._vector(store, query.text, caller, trail)
        ids = await self._ranked(store.id, query, vector)
        found = await self.shelf.found(store.id, ids, vector)
        least = query.least_percent or 0.0
        return tuple(one for one in found if percent(one.similarity) >= least)[: query.top_k]

    async def _vector(self, store: Store, text: str, caller: Caller, trail: Trail) -> bytes:
        # A query longer than the model's window is looked for by its beginning; documents are never cut.
        made = await self.embed(Embed(store.vectorizer, (text,), truncate=True), caller, trail)
        return made.vectors[0]

    async def _ranked(self, store_id: str, query: Query, vector: bytes) -> list[int]:
        """Ids of chunks, best first: `top_k` of them, or more where some may yet fall out."""
        if query.mode is Mode.VECTOR:
            return [one.chunk_id for one in await self._near(store_id, query, vector, query.top_k)]
        most = min(max(query.top_k * DEEPER, LEAST_CANDIDATES), MOST_CANDIDATES)
        words = await self.shelf.matching(store_id, query_terms(query.text), most, query.where)
        if query.mode is Mode.TEXT:
            return [one.chunk_id for one in words]
        near = await self._near(store_id, query, vector, most)
        return [one.chunk_id for one in fuse_ranks((near, words))][:most]

    async def _near(self, store_id: str, query: Query, vector: bytes, most: int) -> list[Scored]:
        least = NEAR_PERCENT if query.least_percent is None else query.least_percent
        near = await self.shelf.nearest(store_id, vector, most, query.where)
        return [one for one in near if percent(one.score) >= least]


def percent(similarity: float) -> float:
    """A cosine as the contract tells it. Source: `lollms.md`, section 9.3."""
    return min(100.0, max(0.0, (round(similarity, 6) + 1) / 2 * 100))
