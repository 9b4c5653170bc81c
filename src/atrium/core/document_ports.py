"""Ports of document stores: what services need of the database, the store files and the parser."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

from atrium.core.documents import (
    Document,
    Found,
    Indexed,
    Ingest,
    Metadata,
    Parsed,
    Permission,
    Reached,
    Scored,
    Share,
    Store,
    StoreChange,
    Tally,
)


class StoreBook(Protocol):
    """Which stores there are, whose they are, and with whom they are shared."""

    async def add(self, store: Store, most: int) -> Store:
        """Raises NotFound when the owner is gone; Conflict when they have a store of this name, or `most` stores."""
        ...

    async def reach(self, store_id: str, user_id: int | None) -> tuple[Store, Permission | None] | None:
        """The store, and what the user is to it: None where they are nothing."""
        ...

    async def listed(self, user_id: int | None) -> tuple[Reached, ...]:
        """What the user may see, by name."""
        ...

    async def all(self) -> tuple[Store, ...]: ...

    async def change(self, store_id: str, change: StoreChange, now: datetime) -> Store:
        """Raises NotFound; Conflict when the owner has another store of this name."""
        ...

    async def touch(self, store_id: str, now: datetime) -> None:
        """Something in it has changed."""
        ...

    async def delete(self, store_id: str) -> None:
        """With its shares and the documents on their way. Raises NotFound."""
        ...

    async def share(self, store_id: str, user_id: int, permission: Permission) -> None: ...

    async def unshare(self, store_id: str, user_id: int) -> bool: ...

    async def shares(self, store_id: str) -> tuple[Share, ...]: ...


class IngestBook(Protocol):
    """Documents on their way into stores, and those that did not get there."""

    async def add(self, ingests: Sequence[Ingest]) -> None:
        """All or none. What failed before under the same names in the same store is forgotten."""
        ...

    async def find(self, document_id: str) -> Ingest | None: ...

    async def of_store(self, store_id: str) -> tuple[Document, ...]: ...

    async def unfinished(self, home: str) -> tuple[Ingest, ...]:
        """Oldest first."""
        ...

    async def fail(self, document_id: str, error: str) -> None: ...

    async def retry(self, document_id: str) -> None:
        """Make a failed one pending again."""
        ...

    async def remove(self, document_id: str) -> bool:
        """False when it was not there."""
        ...


class Shelf(Protocol):
    """What is in stores: documents, chunks, vectors and the index of words.

    Every change is one transaction: a search sees the state before it or after it.
    """

    async def put(self, indexed: Indexed) -> None:
        """In place of what is there under its id or its filename."""
        ...

    async def remove(self, store_id: str, document_id: str) -> bool:
        """False when it was not there."""
        ...

    async def drop(self, store_id: str) -> None:
        """Everything of a store, gone."""
        ...

    async def tally(self, store_id: str) -> Tally: ...

    async def documents(self, store_id: str) -> tuple[Document, ...]:
        """Oldest first."""
        ...

    async def text(self, store_id: str, document_id: str) -> Parsed | None: ...

    async def same(self, store_id: str, digest: str) -> Indexed | None:
        """A document with that content, if the store has one."""
        ...

    async def nearest(self, store_id: str, vector: bytes, most: int, where: Metadata) -> tuple[Scored, ...]:
        """Chunks by cosine to a unit vector, exact, best first."""
        ...

    async def matching(self, store_id: str, terms: Sequence[str], most: int, where: Metadata) -> tuple[Scored, ...]:
        """Chunks that hold any of the terms, best first."""
        ...

    async def found(self, store_id: str, chunk_ids: Sequence[int], vector: bytes) -> tuple[Found, ...]:
        """Those that are still there, in the order asked for, with their cosine to a unit vector."""
        ...

    async def stores(self) -> frozenset[str]:
        """Ids of all stores that anything is kept of."""
        ...


class Parser(Protocol):
    async def parse(self, path: Path, filename: str) -> Parsed:
        """Raises UnreadableDocument: of no known kind, damaged, encrypted, without text, too large inside, too slow."""
        ...
