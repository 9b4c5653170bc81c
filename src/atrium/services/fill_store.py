"""Taking documents into stores, as work that outlives whatever stops it.

A document's file lies in the data folder and its row in the database before anybody is told that it was taken; both go
when the document is in its store, which is one transaction. Whatever was not in by then is done again from its start,
so no chunk is ever there twice.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from atrium.core.document_ports import IngestBook, Shelf
from atrium.core.documents import Document, Ingest, Status
from atrium.core.errors import AtriumError, NotFound, QueueFull, ShuttingDown, Unavailable, UpstreamFailed
from atrium.core.events import Tell
from atrium.core.people import Caller
from atrium.services.prepare_document import PrepareDocument
from atrium.services.stores import Stores

PATIENCE = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
"""Seconds between tries, when what is missing may come: a model that is being installed, room in a queue."""
SWEEP_SECONDS = 60.0
LOCKS = 64


@dataclass(frozen=True, slots=True)
class FillBounds:
    parallel: int
    queue: int
    """Documents that may wait."""
    documents: int
    """Of one store."""
    home: str
    """Names the data folder: what lies in another one is another gateway's."""


class FillStore:
    """Owns the tasks that take documents in; enter it to have them run."""

    def __init__(
        self, stores: Stores, ingests: IngestBook, prepare: PrepareDocument, bounds: FillBounds, tell: Tell
    ) -> None:
        self.stores = stores
        self.ingests = ingests
        self.shelf: Shelf = stores.shelf
        self.prepare = prepare
        self.bounds = bounds
        self.arriving: set[str] = set()
        """Documents whose file is there and whose row is on its way."""
        self._tell = tell
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self._at: set[str] = set()
        """What is in the queue or being taken in."""
        self._running: dict[str, asyncio.Task[None]] = {}
        self._ends: dict[str, asyncio.Future[Document | None]] = {}
        self._progress: dict[str, float] = {}
        self._locks = [asyncio.Lock() for _ in range(LOCKS)]
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await self._resume()
        self._tasks = [asyncio.create_task(self._work()) for _ in range(self.bounds.parallel)]
        self._tasks.append(asyncio.create_task(self._sweep_often()))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for end in self._ends.values():
            if not end.done():
                end.set_exception(ShuttingDown("The server is stopping; the document is taken in after its next start"))
                # Nobody may be waiting for it.
                end.exception()

    def lock(self, store_id: str) -> asyncio.Lock:
        """Changes of one store's documents come one after the other."""
        return self._locks[hash(store_id) % LOCKS]

    def source(self, document_id: str) -> Path:
        return self.prepare.files / document_id

    # What others ask for.

    def check_room(self, more: int) -> None:
        """Raises QueueFull."""
        waiting = self._queue.qsize() + len(self.arriving)
        if waiting + more > self.bounds.queue:
            raise QueueFull(f"{waiting} documents wait to be taken in already", retry_after=PATIENCE[-1])

    async def enqueue(self, ingests: Sequence[Ingest]) -> None:
        """Their files are in place. Raises NotFound when the store is gone meanwhile."""
        await self.ingests.add(ingests)
        for ingest in ingests:
            self.start(ingest.document.id)

    def start(self, document_id: str) -> None:
        self._ends[document_id] = asyncio.get_running_loop().create_future()
        self._put(document_id)

    def end_of(self, document_id: str) -> asyncio.Future[Document | None] | None:
        """Done when the document is in or has failed, with None when it was deleted; None for one that nobody is at.

        Ends with ShuttingDown when the server stops first, with Unavailable when the database is away.
        """
        return self._ends.get(document_id)

    def progress(self, document_id: str) -> float:
        return self._progress.get(document_id, 0.0)

    async def forget(self, document: Document) -> bool:
        """A document that is not in: its row, its file, the work on it. The store's lock must be held."""
        gone = await self.ingests.remove(document.id)
        await self.abandon(document)
        return gone

    async def abandon(self, document: Document) -> None:
        """End the work on a document whose row is gone."""
        if task := self._running.get(document.id):
            task.cancel()
        await asyncio.to_thread(self.source(document.id).unlink, missing_ok=True)
        self._end(document.id, None)

    async def sweep(self) -> None:
        """What is left of stores and documents that are gone from the database, such as those of a deleted user."""
        kept = await self.shelf.stores()
        known = {store.id for store in await self.stores.book.all()}
        for store_id in kept - known:
            await self.shelf.drop(store_id)
        for name in await asyncio.to_thread(names_in, self.prepare.files):
            if name not in self.arriving and await self.ingests.find(name) is None and name not in self.arriving:
                await asyncio.to_thread(self.source(name).unlink, missing_ok=True)

    # The work.

    def _put(self, document_id: str) -> None:
        self._at.add(document_id)
        self._queue.put_nowait(document_id)

    async def _resume(self) -> None:
        """Take up what nobody is at: from before a stop, or from when the database was away."""
        for ingest in await self.ingests.unfinished(self.bounds.home):
            if ingest.document.id not in self._at | self.arriving:
                self._put(ingest.document.id)

    async def _work(self) -> None:
        while True:
            document_id = await self._queue.get()
            task = self._running[document_id] = asyncio.create_task(self._take_in(document_id))
            try:
                await asyncio.wait((task,))
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                self._running.pop(document_id, None)
                self._progress.pop(document_id, None)
                self._at.discard(document_id)
            self._end(document_id, None)

    async def _take_in(self, document_id: str) -> None:
        try:
            ingest = await self.ingests.find(document_id)
        except Exception as error:  # noqa: BLE001 - a task's root: its row stays as it is, and is taken up again
            self._tell("document.failed", {"document": document_id, "error": f"{type(error).__name__}: {error}"})
            self._break_off(document_id)
            return
        if ingest is None or ingest.document.status is not Status.PENDING:
            return
        document = ingest.document
        try:
            await self._with_patience(ingest)
        except ShuttingDown:
            return
        except AtriumError as error:
            await self._fail(document, error.message)
        except Exception as error:  # noqa: BLE001 - a task's root: the document has failed, and its owner is told
            self._tell("document.failed", {"store": document.store_id, "error": f"{type(error).__name__}: {error}"})
            await self._fail(document, "something went wrong inside the server")

    async def _with_patience(self, ingest: Ingest) -> None:
        """Raises what taking the document in raises, after all tries where another might have helped."""
        for wait in PATIENCE:
            try:
                await self._once(ingest)
            except ShuttingDown:
                raise
            except (Unavailable, UpstreamFailed):
                await asyncio.sleep(wait)
            else:
                return
        await self._once(ingest)

    async def _once(self, ingest: Ingest) -> None:
        document = ingest.document
        found = await self.stores.book.reach(document.store_id, None)
        if found is None:
            return
        store, _ = found
        caller = Caller(ingest.user_id, store.owner, key_id=ingest.key_id)

        def told(share: float) -> None:
            self._progress[document.id] = share

        indexed = await self.prepare(document, store, caller, told)
        async with self.lock(store.id):
            if await self.ingests.find(document.id) is None:
                return
            await self.shelf.put(indexed)
            if not await self.ingests.remove(document.id):
                # Another gateway deleted it in this moment.
                await self.shelf.remove(store.id, document.id)
                return
        with contextlib.suppress(AtriumError):
            await self.stores.book.touch(store.id, datetime.now(UTC))
        await asyncio.to_thread(self.source(document.id).unlink, missing_ok=True)
        self._end(document.id, indexed.document)

    async def _fail(self, document: Document, error: str) -> None:
        try:
            await self.ingests.fail(document.id, error)
        except Exception as fault:  # noqa: BLE001 - its row stays as it is, and is taken up again
            self._tell("document.failed", {"store": document.store_id, "error": f"{type(fault).__name__}: {fault}"})
        self._end(document.id, replace(document, status=Status.FAILED, error=error))

    def _end(self, document_id: str, document: Document | None) -> None:
        end = self._ends.pop(document_id, None)
        if end is not None and not end.done():
            end.set_result(document)

    def _break_off(self, document_id: str) -> None:
        end = self._ends.pop(document_id, None)
        if end is not None and not end.done():
            why = "The database is away; the document is taken in once it is back"
            end.set_exception(Unavailable(why, hint="Look for it later", retry_after=SWEEP_SECONDS))
            # Nobody may be waiting for it.
            end.exception()

    async def _sweep_often(self) -> None:
        while True:
            for tidy in (self._resume, self.sweep):
                try:
                    await tidy()
                except Exception as error:  # noqa: BLE001 - a task's root: the next round may do better
                    self._tell("stores.sweep_failed", {"error": f"{type(error).__name__}: {error}"})
            await asyncio.sleep(SWEEP_SECONDS)


def names_in(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir() if entry.is_file()]


def not_there(given: str) -> NotFound:
    return NotFound(f"The store has no document '{given[:200]}'")
