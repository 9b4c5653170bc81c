"""The same over HTTP where the database is PostgreSQL, with pgvector and without it."""

from __future__ import annotations

import io
import signal
from collections.abc import Generator
from contextlib import ExitStack

import pytest
from reportlab.pdfgen.canvas import Canvas

from tests.postgres import pgvector, postgres
from tests.running import running
from tests.stores.shop import FAKES, RAG, Shop, brought, create, documents, everything, opened, query, upload
from tests.stores.test_bad_weather import NOT_WAITING, TEXT, begun, indexed, whole

SERVERS = {"postgresql": postgres, "pgvector": pgvector}


@pytest.fixture(scope="module", params=SERVERS)
def kept(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[Shop, str]]:
    """A shop, and the address of its database."""
    folder = tmp_path_factory.mktemp("shop") / "data"
    with ExitStack() as stack:
        url = stack.enter_context(SERVERS[request.param]())
        shop = stack.enter_context(opened(folder, pace="5ms", ATRIUM_DATABASE_URL=url))
        told = (folder.parent / "server.log").read_text()
        assert f'"kept":"{"pgvector" if request.param == "pgvector" else "bytes"}"' in told
        yield shop, url


def test_stores_in_postgresql_are_filled_searched_and_emptied(kept: tuple[Shop, str]) -> None:
    shop, _ = kept
    with shop.client("ann") as ann:
        store = create(ann, "shared")
        rows = brought(ann, store, ("a.txt", b"Vacation is 25 days a year."), ("b.txt", b"Cars need oil."))
        assert [row["status"] for row in rows] == ["indexed", "indexed"]
        for mode in ("vector", "text", "hybrid"):
            hits = query(ann, store, "Vacation is 25 days a year.", mode=mode, top_k=1)
            assert [hit["file_path"] for hit in hits] == ["a.txt"]
        assert query(ann, store, "anything", min_similarity=100) == []
        assert ann.delete(f"{RAG}/databases/{store}/documents/a.txt").status_code == 200
        assert [row["filename"] for row in documents(ann, store)] == ["b.txt"]
        assert [hit["chunk_text"] for hit in everything(ann, store)] == ["Cars need oil."]
        assert not list((shop.server.data_dir / "stores").iterdir())


def test_a_nul_which_postgresql_cannot_keep_is_left_out_or_refused(kept: tuple[Shop, str]) -> None:
    shop, _ = kept
    with shop.client("ann") as ann:
        store = create(ann, "nul")
        (row,) = brought(ann, store, ("a.pdf", titled("A\0B")))
        assert row["status"] == "indexed"
        assert len(query(ann, store, "\0words", mode="text", min_similarity=0)) == 1
        body = {"model": "talk", "store": True, "metadata": {"a": "\0"}, "messages": [{"role": "user", "content": "x"}]}
        answer = ann.post("/v1/chat/completions", json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_value")
        assert ann.get("/v1/chat/completions/%00").status_code == 400


def titled(title: str) -> bytes:
    made = io.BytesIO()
    canvas = Canvas(made)
    canvas.setTitle(title)
    canvas.drawString(50, 700, "words of a page")
    canvas.save()
    return made.getvalue()


def test_an_upload_to_postgresql_survives_a_kill_with_no_chunk_twice(kept: tuple[Shop, str]) -> None:
    """The last: it ends the shop's server."""
    shop, url = kept
    with shop.client("ann") as ann:
        store = create(ann, "killed")
        assert upload(ann, store, ("long.txt", TEXT), params=NOT_WAITING).status_code == 202
        begun(ann, store)
        shop.server.stop(signal.SIGKILL)
    folder, key = shop.server.data_dir, shop.people["ann"]
    with running(folder, key=key, ATRIUM_DATABASE_URL=url, **FAKES) as server, server.client(timeout=120) as ann:
        whole(ann, store, indexed(ann, store))
        assert not list((folder / "files").iterdir())
