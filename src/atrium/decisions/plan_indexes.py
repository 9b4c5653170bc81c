"""Which stores in PostgreSQL get an index of their vectors, and which indexes go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

VECTOR_MOST = 2000
"""Numbers of a vector that pgvector indexes as it is. Source: pgvector's README, "HNSW"."""
HALF_MOST = 4000
"""The same for vectors whose numbers take two bytes."""
START = "near_"


@dataclass(frozen=True, slots=True)
class Large:
    """A store that an index may pay for."""

    store: str
    """A UUID."""
    chunks: int
    dimensions: int

    @property
    def index(self) -> str:
        """The index's name; what is not built in the same way has another one."""
        return f"{START}{self.store.replace('-', '')}_{self.dimensions}"


@dataclass(frozen=True, slots=True)
class IndexPlan:
    build: tuple[Large, ...] = ()
    """Smallest first: the most stores are helped soonest."""
    drop: tuple[str, ...] = ()
    """Names."""


def indexed_type(dimensions: int) -> str | None:
    """The type that vectors of this size are indexed as; None where no index can have them."""
    if dimensions <= VECTOR_MOST:
        return f"vector({dimensions})"
    return f"halfvec({dimensions})" if dimensions <= HALF_MOST else None


def plan_indexes(stores: Sequence[Large], there: Mapping[str, bool], exact_below: int) -> IndexPlan:
    """`there` has every index by its name: false for one whose building was broken off, which serves nobody.

    An index stays until its store has shrunk to half the size that it was built for, so that a store around that size
    is not built for again and again.
    """
    able = [store for store in stores if indexed_type(store.dimensions)]
    build = [store for store in able if store.chunks >= exact_below and not there.get(store.index)]
    kept = {store.index for store in able if store.chunks * 2 >= exact_below}
    drop = [name for name, whole in there.items() if not whole or name not in kept]
    return IndexPlan(tuple(sorted(build, key=lambda store: (store.chunks, store.store))), tuple(sorted(drop)))
