"""Stores as files in the data folder. Implements `core.document_ports.Shelf`; all work is done in its own threads."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import apsw

from atrium.core.documents import Document, Found, Indexed, Metadata, Parsed, Scored, Tally
from atrium.core.errors import DiskFull, Unavailable
from atrium.storage.store_file import FLOAT, StoreFile
from atrium.storage.vector_blocks import VectorBlocks

T = TypeVar("T")
ENDING = ".db"
BESIDE = ("", "-wal", "-shm")
SMALL = 4000
"""Chunks of a store that are scanned in its file: that takes about as long as anything would."""


@dataclass(frozen=True, slots=True)
class ShelfBounds:
    open_files: int
    vector_memory: int
    """Bytes for vectors that are kept in memory, all stores together."""
    threads: int = 4
    small: int = SMALL
    """Chunks of a store that is scanned in its file."""


class Opened:
    """A store's file while it is open, with its vectors where they are in memory."""

    def __init__(self, file: StoreFile) -> None:
        self.file = file
        self.changing = threading.RLock()
        """Held while the file and the vectors in memory change together, or are loaded."""
        self.blocks: VectorBlocks | None = None
        self.used_by = 0


class StoreFiles:
    def __init__(self, folder: Path, bounds: ShelfBounds) -> None:
        self._folder = folder
        self._bounds = bounds
        self._threads = ThreadPoolExecutor(bounds.threads, thread_name_prefix="stores")
        self._lock = threading.Lock()
        self._open: OrderedDict[str, Opened] = OrderedDict()
        """Least recently used first."""

    async def close(self) -> None:
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._threads.shutdown(wait=True)
        for opened in self._open.values():
            opened.file.close()
        self._open.clear()

    # The port.

    async def put(self, indexed: Indexed) -> None:
        store_id = indexed.document.store_id

        def work() -> None:
            with self._held(store_id) as opened, opened.changing:
                replaced, rows = opened.file.put(indexed)
                if opened.blocks is not None:
                    opened.blocks.remove(replaced)
                    opened.blocks.add(rows)

        await self._run(work)

    async def remove(self, store_id: str, document_id: str) -> bool:
        def work() -> bool:
            if not self._path(store_id).exists():
                return False
            with self._held(store_id) as opened, opened.changing:
                number = opened.file.remove(document_id)
                if opened.blocks is not None and number is not None:
                    opened.blocks.remove([number])
                return number is not None

        return await self._run(work)

    async def drop(self, store_id: str) -> None:
        def work() -> None:
            with self._lock:
                opened = self._open.pop(store_id, None)
            if opened is not None:
                with opened.changing:
                    opened.file.close()
            path = self._path(store_id)
            for ending in BESIDE:
                path.with_name(path.name + ending).unlink(missing_ok=True)

        await self._run(work)

    async def tally(self, store_id: str) -> Tally:
        return await self._read(store_id, lambda opened: opened.file.tally, Tally())

    async def documents(self, store_id: str) -> tuple[Document, ...]:
        return await self._read(store_id, lambda opened: opened.file.documents(), ())

    async def text(self, store_id: str, document_id: str) -> Parsed | None:
        return await self._read(store_id, lambda opened: opened.file.text(document_id), None)

    async def same(self, store_id: str, digest: str) -> Indexed | None:
        return await self._read(store_id, lambda opened: opened.file.same(digest), None)

    async def nearest(self, store_id: str, vector: bytes, most: int, where: Metadata) -> tuple[Scored, ...]:
        def work(opened: Opened) -> tuple[Scored, ...]:
            documents = opened.file.chosen(where)
            blocks = self._in_memory(store_id, opened)
            if blocks is None:
                return opened.file.scan(vector, most, documents)
            return blocks.nearest(vector, most, documents)

        return await self._read(store_id, work, ())

    async def matching(self, store_id: str, terms: Sequence[str], most: int, where: Metadata) -> tuple[Scored, ...]:
        def work(opened: Opened) -> tuple[Scored, ...]:
            return opened.file.matching(terms, most, opened.file.chosen(where))

        return await self._read(store_id, work, ())

    async def found(self, store_id: str, chunk_ids: Sequence[int], vector: bytes) -> tuple[Found, ...]:
        return await self._read(store_id, lambda opened: opened.file.found(chunk_ids, vector), ())

    async def stores(self) -> frozenset[str]:
        return await self._run(lambda: frozenset(path.stem for path in self._folder.glob(f"*{ENDING}")))

    # Files.

    def _path(self, store_id: str) -> Path:
        return self._folder / f"{store_id}{ENDING}"

    async def _run(self, work: Callable[[], T]) -> T:
        """Raises DiskFull, Unavailable, and what the work raises."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except apsw.FullError:
            raise DiskFull("The disk that the stores lie on is full", hint="Make room, then try again") from None
        except (apsw.BusyError, apsw.ReadOnlyError, apsw.IOError, apsw.CantOpenError) as error:
            hint = "Look at its disk and its permissions"
            raise Unavailable(f"The store's file cannot be used: {error}", hint=hint) from error

    async def _read(self, store_id: str, work: Callable[[Opened], T], empty: T) -> T:
        def reading() -> T:
            if not self._path(store_id).exists():
                return empty
            with self._held(store_id) as opened:
                try:
                    return work(opened)
                except apsw.ConnectionClosedError:
                    # The store was deleted in this very moment.
                    return empty

        return await self._run(reading)

    @contextmanager
    def _held(self, store_id: str) -> Generator[Opened]:
        """The store's open file; while it is held it is not closed."""
        with self._lock:
            opened = self._open.get(store_id)
            if opened is None:
                opened = self._open[store_id] = Opened(StoreFile(self._path(store_id), store_id))
            self._open.move_to_end(store_id)
            opened.used_by += 1
        try:
            yield opened
        finally:
            with self._lock:
                opened.used_by -= 1
                self._close_idle()

    def _close_idle(self) -> None:
        over = len(self._open) - self._bounds.open_files
        idle = [store_id for store_id, opened in self._open.items() if not opened.used_by]
        for store_id in idle[: max(over, 0)]:
            self._open.pop(store_id).file.close()

    def _in_memory(self, store_id: str, opened: Opened) -> VectorBlocks | None:
        """The store's vectors in memory, brought there if that pays and there is room."""
        blocks = opened.blocks
        if blocks is not None or opened.file.tally.chunks <= self._bounds.small:
            return blocks
        with opened.changing:
            if opened.blocks is None:
                needed = opened.file.tally.chunks * opened.file.dimensions * FLOAT
                if needed > self._bounds.vector_memory:
                    return None
                self._make_room(needed, store_id)
                loaded = VectorBlocks(opened.file.dimensions)
                loaded.add(opened.file.vectors())
                opened.blocks = loaded
            return opened.blocks

    def _make_room(self, needed: int, store_id: str) -> None:
        """The least recently used stores give up what they keep in memory."""
        with self._lock:
            others = [(one, opened) for one, opened in self._open.items() if one != store_id and opened.blocks]
            used = sum(opened.blocks.size for _, opened in others if opened.blocks)
            for _, opened in others:
                if used + needed <= self._bounds.vector_memory:
                    return
                used -= opened.blocks.size if opened.blocks else 0
                opened.blocks = None
