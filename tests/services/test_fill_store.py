"""Documents on their way, beside a database that comes and goes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import cast

import pytest

from atrium.core.documents import Document, Ingest
from atrium.core.errors import Unavailable
from atrium.services import fill_store
from atrium.services.fill_store import FillBounds, FillStore
from atrium.services.prepare_document import PrepareDocument
from atrium.services.stores import Stores

DOCUMENT = Document("one", "store", "a.txt", 1, "digest", datetime(2026, 5, 4, tzinfo=UTC), {})


class Away:
    """A book of what is on its way, that fails once."""

    def __init__(self) -> None:
        self.rows: list[Ingest] = []
        self.failed = False
        self.asked_again = asyncio.Event()

    async def add(self, ingests: Sequence[Ingest]) -> None:
        self.rows += ingests

    async def find(self, document_id: str) -> Ingest | None:
        if not self.failed:
            self.failed = True
            raise ConnectionError("the database is away")
        self.rows = [row for row in self.rows if row.document.id != document_id]
        self.asked_again.set()
        return None

    async def of_store(self, store_id: str) -> tuple[Document, ...]:
        return tuple(row.document for row in self.rows if row.document.store_id == store_id)

    async def unfinished(self, home: str) -> tuple[Ingest, ...]:
        return tuple(row for row in self.rows if row.home == home)

    async def fail(self, document_id: str, error: str) -> None:
        raise AssertionError(document_id, error)

    async def retry(self, document_id: str) -> None:
        raise AssertionError(document_id)

    async def remove(self, document_id: str) -> bool:
        raise AssertionError(document_id)


async def test_a_document_that_waits_while_the_database_is_away_is_taken_up_when_it_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fill_store, "SWEEP_SECONDS", 0.01)
    book, told = Away(), dict[str, Mapping[str, object]]()
    nothing = SimpleNamespace(shelf=None)
    stores, prepare = cast("Stores", nothing), cast("PrepareDocument", nothing)
    bounds = FillBounds(parallel=1, queue=10, documents=10, home="here")
    async with FillStore(stores, book, prepare, bounds, told.__setitem__) as fill:
        await fill.enqueue([Ingest(DOCUMENT, 1, None, "here")])
        end = fill.end_of(DOCUMENT.id)
        assert end is not None
        with pytest.raises(Unavailable, match="is taken in once it is back"):
            await end
        assert "the database is away" in str(told["document.failed"]["error"])
        await asyncio.wait_for(book.asked_again.wait(), 10)
