"""From a file to what a store keeps of it: its text, cut into chunks, each with a vector."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from atrium.core.document_ports import Parser, Shelf
from atrium.core.documents import Chunk, Document, Indexed, Parsed, Status, Store
from atrium.core.errors import ContextTooLong, TooLarge, UnreadableDocument
from atrium.core.people import Caller
from atrium.core.requests import Embed
from atrium.decisions.split_text import split_text
from atrium.services.metered import Embeddings

TOGETHER = 256
"""Chunks in one request for vectors: enough to keep the engine busy, few enough for others to have their turn."""
SMALLEST = 32
"""Characters of a chunk below which no smaller one is tried."""
READ = 0.1
"""Share of the progress that a document has made once it is read."""


@dataclass(frozen=True, slots=True)
class PrepareDocument:
    parser: Parser
    shelf: Shelf
    embed: Embeddings
    files: Path
    """Where a document's file lies under its id."""
    most_chunks: int

    async def __call__(
        self, document: Document, store: Store, caller: Caller, told: Callable[[float], None]
    ) -> Indexed:
        """`told` is told the share that is done. Raises UnreadableDocument, TooLarge, and what embedding raises."""
        source = self.files / document.id
        if await asyncio.to_thread(source.exists):
            if known := await self._known(document, store):
                return known
            parsed = await self.parser.parse(source, document.filename)
        else:
            # It is in the store already, and is to be cut and embedded anew.
            there = await self.shelf.text(store.id, document.id)
            if there is None:
                raise UnreadableDocument("its file is gone", hint="Send it again")
            parsed = there
        told(READ)
        chunks, vectors = await self._cut_and_embed(parsed, store, caller, told)
        return Indexed(finished(document, len(chunks)), parsed, chunks, vectors)

    async def _known(self, document: Document, store: Store) -> Indexed | None:
        """The same content under another name need not be read again; what it is depends on the name's ending."""
        same = await self.shelf.same(store.id, document.digest)
        if same is None or PurePath(same.document.filename).suffix != PurePath(document.filename).suffix:
            return None
        return replace(same, document=finished(document, len(same.chunks)))

    async def _cut_and_embed(
        self, parsed: Parsed, store: Store, caller: Caller, told: Callable[[float], None]
    ) -> tuple[tuple[Chunk, ...], tuple[bytes, ...]]:
        """Smaller than the store has it where a text has more tokens than the model takes: nothing is left out."""
        size, overlap = store.chunk_size, store.chunk_overlap
        while True:
            chunks = await asyncio.to_thread(split_text, parsed.text, size, overlap, parsed.pages)
            if len(chunks) > self.most_chunks:
                raise TooLarge(f"It makes {len(chunks)} chunks; at most {self.most_chunks} are taken")
            try:
                return chunks, await self._vectors(chunks, store, caller, told)
            except ContextTooLong:
                size, overlap = size // 2, overlap // 2
                if size < SMALLEST:
                    raise

    async def _vectors(
        self, chunks: tuple[Chunk, ...], store: Store, caller: Caller, told: Callable[[float], None]
    ) -> tuple[bytes, ...]:
        vectors: list[bytes] = []
        for first in range(0, len(chunks), TOGETHER):
            texts = tuple(chunk.text for chunk in chunks[first : first + TOGETHER])
            vectors += (await self.embed(Embed(store.vectorizer, texts), caller)).vectors
            told(READ + (1 - READ) * len(vectors) / len(chunks))
        return tuple(vectors)


def finished(document: Document, chunks: int) -> Document:
    return replace(document, status=Status.INDEXED, chunks=chunks, error="", progress=1.0)
