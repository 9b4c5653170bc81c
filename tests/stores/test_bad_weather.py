"""Kills, deletions and crowds in the midst of taking documents in."""

from __future__ import annotations

import contextlib
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import psutil

from tests.running import running
from tests.stores.shop import FAKES, RAG, Row, brought, create, documents, everything, opened, upload

TEXT = "\n\n".join(f"Paragraph {n} of the long document, with number {n * 13} in it." for n in range(400)).encode()
NOT_WAITING = {"wait": "false"}


def indexed(client: httpx2.Client, store: str) -> Row:
    """Wait until the store's one document is in; each question is itself a wait for an answer."""
    deadline = time.monotonic() + 60
    while True:
        (row,) = documents(client, store)
        if row["status"] != "pending":
            assert row["status"] == "indexed", row
            return row
        assert time.monotonic() < deadline, row


def begun(client: httpx2.Client, store: str) -> None:
    """Wait until a document is read and being embedded."""
    deadline = time.monotonic() + 60
    while not documents(client, store)[0].get("progress"):
        assert time.monotonic() < deadline


def whole(client: httpx2.Client, store: str, row: Row) -> None:
    """Every chunk once."""
    starts = [hit["start_pos"] for hit in everything(client, store)]
    assert len(starts) == len(set(starts)) == row["chunks"] > 0
    assert client.get(f"{RAG}/databases/{store}").json()["chunk_count"] == row["chunks"]


def test_what_was_acknowledged_is_taken_in_after_a_kill_with_no_chunk_twice(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with opened(folder, pace="10ms") as shop, shop.client("ann") as ann:
        store = create(ann, "killed")
        assert upload(ann, store, ("long.txt", TEXT), params=NOT_WAITING).status_code == 202
        begun(ann, store)
        shop.server.stop(signal.SIGKILL)
        people = shop.people
    with running(folder, key=people["ann"], **FAKES) as server, server.client(timeout=120) as ann:
        row = indexed(ann, store)
        whole(ann, store, row)
        assert not list((folder / "files").iterdir())


def test_a_document_or_its_store_that_is_deleted_meanwhile_stays_away(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with opened(folder, pace="10ms") as shop, shop.client("ann") as ann:
        store, other = create(ann, "deleted in"), create(ann, "deleted whole")
        for one in (store, other):
            upload(ann, one, ("long.txt", TEXT), params=NOT_WAITING)
            begun(ann, one)
        assert ann.delete(f"{RAG}/databases/{store}/documents/long.txt").status_code == 200
        assert ann.delete(f"{RAG}/databases/{other}").status_code == 200
        assert documents(ann, store) == []
        (row,) = upload(ann, store, ("after.txt", b"after words")).json()["data"]
        assert row["status"] == "indexed"
        assert [hit["chunk_text"] for hit in everything(ann, store)] == ["after words"]
        assert [path.name for path in (folder / "stores").glob("*.db")] == [f"{store}.db"]
        assert not list((folder / "files").iterdir())


def test_whoever_waits_for_a_document_that_is_deleted_is_told(tmp_path: Path) -> None:
    with opened(tmp_path / "data", pace="10ms") as shop, shop.client("ann") as ann, ThreadPoolExecutor(1) as pool:
        store = create(ann, "waited for")
        waiting = pool.submit(lambda: upload(ann, store, ("long.txt", TEXT)))
        with shop.client("ann") as other:
            while not documents(other, store):
                pass
            other.delete(f"{RAG}/databases/{store}/documents/long.txt")
        answer = waiting.result(60)
        assert answer.status_code == 400
        assert "deleted" in answer.json()["detail"]


def test_uploads_to_one_store_at_once_all_succeed_and_queries_go_on(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as shop, ThreadPoolExecutor(8) as pool:
        with shop.client("ann") as ann:
            store = create(ann, "crowd")

        def bring(number: int) -> int:
            with shop.client("ann") as client:
                assert isinstance(everything(client, store), list)
                return upload(client, store, (f"{number}.txt", f"words of {number}".encode())).status_code

        assert set(pool.map(bring, range(24))) == {201}
        with shop.client("ann") as ann:
            assert len(documents(ann, store)) == 24
            assert {hit["file_path"] for hit in everything(ann, store)} == {f"{n}.txt" for n in range(24)}


def test_the_parsers_death_costs_one_try_and_no_document(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as shop, shop.client("ann") as ann:
        store = create(ann, "parser")
        for number in range(3):
            assert upload(ann, store, (f"{number}.txt", b"words")).status_code == 201
            for child in psutil.Process(shop.server.process.pid).children(recursive=True):
                if "atrium.engines.workers.parse" in child.cmdline():
                    child.kill()


def test_no_parser_outlives_its_server(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as shop, shop.client("ann") as ann:
        store = create(ann, "orphans")
        upload(ann, store, ("a.txt", b"words"))
        children = psutil.Process(shop.server.process.pid).children(recursive=True)
        parsers = [child for child in children if "atrium.engines.workers.parse" in child.cmdline()]
        assert parsers
        shop.server.stop(signal.SIGKILL)
        gone, _ = psutil.wait_procs(parsers, 10)
        assert len(gone) == len(parsers)


def test_a_client_that_leaves_does_not_stop_its_upload(tmp_path: Path) -> None:
    with opened(tmp_path / "data", pace="5ms") as shop, shop.client("ann") as ann:
        store = create(ann, "left")
        hasty = shop.server.client(key=shop.people["ann"], timeout=0.5)
        with hasty, contextlib.suppress(httpx2.TimeoutException):
            upload(hasty, store, ("long.txt", TEXT))
        whole(ann, store, indexed(ann, store))


def test_a_user_has_so_many_stores_and_a_store_so_many_documents_however_many_ask_at_once(tmp_path: Path) -> None:
    few = {"ATRIUM_DOCUMENTS__STORES_PER_USER": "3", "ATRIUM_DOCUMENTS__DOCUMENTS_PER_STORE": "2"}
    with opened(tmp_path / "data", **few) as shop, shop.client("ann") as ann, ThreadPoolExecutor(8) as pool:
        names = [{"name": f"store {number}"} for number in range(8)]
        made = [one.result() for one in [pool.submit(ann.post, f"{RAG}/databases", json=name) for name in names]]
        assert sorted(answer.status_code for answer in made) == [201] * 3 + [409] * 5
        store = next(answer.json()["id"] for answer in made if answer.status_code == 201)
        brought(ann, store, ("a.txt", b"one"), ("b.txt", b"two"))
        refused = upload(ann, store, ("c.txt", b"three"))
        assert (refused.status_code, "at most 2 documents" in refused.text) == (409, True)
        brought(ann, store, ("a.txt", b"one anew"))
        assert sorted(row["filename"] for row in documents(ann, store)) == ["a.txt", "b.txt"]
