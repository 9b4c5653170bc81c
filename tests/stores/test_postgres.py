"""The same over HTTP where the database is PostgreSQL."""

from __future__ import annotations

from pathlib import Path

from tests.postgres import postgres
from tests.stores.shop import RAG, brought, create, documents, everything, opened, query


def test_stores_in_postgresql_are_filled_searched_and_emptied(tmp_path: Path) -> None:
    with postgres() as url, opened(tmp_path / "data", ATRIUM_DATABASE_URL=url) as shop, shop.client("ann") as ann:
        store = create(ann, "shared")
        rows = brought(ann, store, ("a.txt", b"Vacation is 25 days a year."), ("b.txt", b"Cars need oil."))
        assert [row["status"] for row in rows] == ["indexed", "indexed"]
        for mode in ("vector", "text", "hybrid"):
            hits = query(ann, store, "Vacation is 25 days a year.", mode=mode, top_k=1)
            assert [hit["file_path"] for hit in hits] == ["a.txt"]
        assert ann.delete(f"{RAG}/databases/{store}/documents/a.txt").status_code == 200
        assert [row["filename"] for row in documents(ann, store)] == ["b.txt"]
        assert [hit["chunk_text"] for hit in everything(ann, store)] == ["Cars need oil."]
        assert not list((tmp_path / "data" / "stores").iterdir())
