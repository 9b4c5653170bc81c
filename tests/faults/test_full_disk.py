"""A full disk, a database that another holds, a log that nobody reads: told by name, and nothing is half written."""

from __future__ import annotations

import errno
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, text

from atrium.core.documents import Status
from atrium.core.errors import DiskFull, Unavailable
from atrium.http.errors import as_atrium_error
from atrium.storage import store_file
from atrium.storage.opening import open_storage
from atrium.storage.store_files import ShelfBounds, StoreFiles
from atrium.storage.tables import meta
from atrium.telemetry.events import EventLog
from tests.ports.conftest import PEPPER
from tests.ports.shelves import indexed, unit

LONG = "x" * 1_000_000


async def test_a_change_for_which_the_database_has_no_room_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    storage = await open_storage(None, tmp_path / "atrium.db", PEPPER)
    with pytest.raises(DiskFull):
        async with storage.database.writing() as connection:
            await connection.execute(insert(meta).values(name="small", value="x"))
            await connection.exec_driver_sql("pragma max_page_count=1")
            await connection.execute(insert(meta).values(name="long", value=LONG))
    async with storage.database.writing() as connection:
        await connection.exec_driver_sql("pragma max_page_count=1000000")
        await connection.execute(insert(meta).values(name="later", value=LONG))
    async with storage.database.reading() as connection:
        names = (await connection.execute(text("select name from meta where name <> 'pepper'"))).scalars().all()
    assert names == ["later"]
    await storage.close()


async def test_a_database_that_another_holds_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atrium.storage.database.BUSY_SECONDS", 0)
    file = tmp_path / "atrium.db"
    storage = await open_storage(None, file, PEPPER)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("begin immediate")
        with pytest.raises(Unavailable) as busy:
            async with storage.database.writing() as connection:
                await connection.execute(insert(meta).values(name="x", value="x"))
    assert busy.value.retry_after == 1
    async with storage.database.writing() as connection:
        await connection.execute(insert(meta).values(name="x", value="x"))
    await storage.close()


async def test_a_document_for_which_a_store_has_no_room_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected = store_file.connected

    def on_a_small_disk(path: Path) -> Any:
        db = connected(path)
        db.execute("pragma max_page_count=80")
        return db

    monkeypatch.setattr(store_file, "connected", on_a_small_disk)
    shelf = StoreFiles(tmp_path, ShelfBounds(open_files=2, vector_memory=0))
    kept = indexed("store", "small.txt", ["a few words"], [unit(1)])
    await shelf.put(kept)
    with pytest.raises(DiskFull):
        await shelf.put(indexed("store", "long.txt", [LONG], [unit(2)]))
    assert [one.status for one in await shelf.documents("store")] == [Status.INDEXED]
    assert await shelf.remove("store", kept.document.id)
    await shelf.close()


def test_a_file_for_which_there_is_no_room_is_told() -> None:
    told = as_atrium_error(OSError(errno.ENOSPC, "No space left on device"), "/lollms/v1/extract_text")
    assert (told.status, told.code) == (507, "disk_full")


class Pipe:
    """Somebody reads at its other end, or nobody."""

    def __init__(self) -> None:
        self.read: list[str] = []
        self.gone = True

    def write(self, line: str) -> None:
        if self.gone:
            raise BrokenPipeError
        self.read.append(line)

    def flush(self) -> None:
        """At once."""


def test_a_log_that_cannot_be_written_breaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    log, pipe = EventLog("json", "info"), Pipe()
    monkeypatch.setattr(sys, "stderr", pipe)
    log("upkeep.failed", {"error": "unheard"})
    pipe.gone = False
    log("upkeep.failed", {"error": "heard"})
    assert len(pipe.read) == 1
    assert '"heard"' in pipe.read[0]
