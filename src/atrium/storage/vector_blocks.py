"""Vectors of one store in memory, for exact search at the speed of memory: sqlite-vec's own scan takes several times as
long, since its wheel is built without SIMD.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import mul
from typing import Any

from atrium.core.documents import Scored

FULL = 8192
"""Rows of a block that is not added to any more."""
FLOAT = 4


def cosine(one: bytes, other: bytes) -> float:
    """Of two unit vectors."""
    return sum(map(mul, memoryview(one).cast("f"), memoryview(other).cast("f")))


@dataclass(frozen=True, slots=True)
class Row:
    """One vector: little-endian float32, unit length."""

    chunk_id: int
    document: int
    vector: bytes


@dataclass(frozen=True, slots=True)
class Block:
    """Rows side by side. Arrays are never changed once they are here, so that a search may go on in them."""

    ids: Any
    documents: Any
    vectors: Any


class VectorBlocks:
    """Reading while another thread adds or removes is safe: the blocks of one moment are one tuple."""

    def __init__(self, dimensions: int) -> None:
        # One thread: a product with one vector waits for memory, and more threads would take the engines' cores.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        import numpy  # noqa: PLC0415 - 25 MiB that only a server with large stores needs

        self._numpy: Any = numpy
        self._dimensions = dimensions
        self._blocks: tuple[Block, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of memory."""
        return sum(len(block.ids) for block in self._blocks) * (self._dimensions * FLOAT + 16)

    def add(self, rows: Iterable[Row]) -> None:
        numpy = self._numpy
        batch: list[Row] = []
        blocks = list(self._blocks)
        for row in rows:
            batch.append(row)
            if len(batch) == FULL:
                blocks.append(self._block(batch))
                batch = []
        if batch:
            block = self._block(batch)
            if blocks and len(blocks[-1].ids) + len(batch) <= FULL:
                last = blocks.pop()
                block = Block(
                    numpy.concatenate((last.ids, block.ids)),
                    numpy.concatenate((last.documents, block.documents)),
                    numpy.concatenate((last.vectors, block.vectors)),
                )
            blocks.append(block)
        self._blocks = tuple(blocks)

    def remove(self, documents: Sequence[int]) -> None:
        numpy = self._numpy
        left: list[Block] = []
        for block in self._blocks:
            gone = numpy.isin(block.documents, documents)
            if not gone.any():
                left.append(block)
            elif not gone.all():
                kept = ~gone
                left.append(Block(block.ids[kept], block.documents[kept], block.vectors[kept]))
        self._blocks = tuple(left)

    def nearest(self, vector: bytes, most: int, documents: Sequence[int] | None) -> tuple[Scored, ...]:
        """By cosine, best first; of these documents only, where they are given."""
        numpy = self._numpy
        asked = numpy.frombuffer(vector, dtype="<f4")
        ids: list[Any] = []
        scores: list[Any] = []
        for block in self._blocks:
            own = block.vectors @ asked
            if documents is not None:
                own[~numpy.isin(block.documents, documents)] = -numpy.inf
            if len(own) > most:
                best = numpy.argpartition(own, -most)[-most:]
                ids.append(block.ids[best])
                scores.append(own[best])
            else:
                ids.append(block.ids)
                scores.append(own)
        if not ids:
            return ()
        joined, valued = numpy.concatenate(ids), numpy.concatenate(scores)
        order = numpy.lexsort((joined, -valued))[:most]
        return tuple(Scored(int(joined[place]), float(valued[place])) for place in order if valued[place] != -numpy.inf)

    def _block(self, rows: Sequence[Row]) -> Block:
        numpy = self._numpy
        joined = b"".join(row.vector for row in rows)
        return Block(
            numpy.array([row.chunk_id for row in rows], dtype="i8"),
            numpy.array([row.document for row in rows], dtype="i8"),
            numpy.frombuffer(joined, dtype="<f4").reshape(len(rows), self._dimensions),
        )
