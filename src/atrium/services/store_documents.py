"""The documents of a store: bringing, seeing, deleting and re-ingesting them; and deleting a store with all of them."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from atrium.core.documents import Act, Document, Ingest, Parsed, Status, Store, Upload
from atrium.core.errors import Conflict, InvalidValue
from atrium.core.people import Caller
from atrium.decisions.name_file import name_file
from atrium.services.embed_beside import EmbedBeside
from atrium.services.fill_store import FillStore, not_there
from atrium.services.stores import Stores


@dataclass(frozen=True, slots=True)
class StoreDocuments:
    stores: Stores
    fill: FillStore
    embed: EmbedBeside

    async def add(self, store: Store, uploads: Sequence[Upload], caller: Caller) -> tuple[Document, ...]:
        """Take files that were read; they are on disk for good when this returns. In the order given.

        The very same file under the same name is the document that is there. `store` is one that the caller may write
        to. Raises InvalidValue, Conflict for a full store, QueueFull, RateLimited where the caller may use no more of
        its model, and NotFound when the store is gone meanwhile.
        """
        if not uploads:
            raise InvalidValue("There is no file in it", param="files")
        self.fill.check_room(len(uploads))
        self.embed.check_left(store.vectorizer, caller)
        there = {one.filename: one for one in await self.fill.shelf.documents(store.id)}
        now = datetime.now(UTC)
        taken: dict[str, Document] = {}
        """By name: of two files with one name in one request, the later counts."""
        files: dict[str, tuple[Path, Path]] = {}
        for upload in uploads:
            name = name_file(upload.filename)
            if not name:
                raise InvalidValue("A file needs a name", param="files")
            same = there.get(name)
            if same and same.digest == upload.digest and dict(same.metadata) == dict(upload.metadata):
                taken[name] = same
                continue
            at = now + timedelta(microseconds=len(taken))
            made = Document(str(uuid.uuid4()), store.id, name, upload.size, upload.digest, at, upload.metadata)
            taken[name] = made
            files[name] = (upload.path, self.fill.source(made.id))
        most = self.fill.bounds.documents
        if len(there.keys() | taken.keys()) > most:
            raise Conflict(f"A store has at most {most} documents", hint="Delete some, or take another store")
        new = [one for one in taken.values() if one.status is Status.PENDING]
        await self._keep(new, list(files.values()), caller)
        return tuple(taken.values())

    async def _keep(self, new: Sequence[Document], files: Sequence[tuple[Path, Path]], caller: Caller) -> None:
        ids = {document.id for document in new}
        # Without a wait in between, others may come as well.
        self.fill.check_room(len(ids))
        self.fill.arriving.update(ids)
        try:
            await asyncio.to_thread(keep_files, files)
            await self.fill.enqueue([self._ingest(one, caller) for one in new])
        finally:
            self.fill.arriving.difference_update(ids)

    def _ingest(self, document: Document, caller: Caller) -> Ingest:
        return Ingest(document, caller.user_id, caller.key_id, self.fill.bounds.home)

    async def settled(self, documents: Sequence[Document]) -> tuple[Document, ...]:
        """Each as it is once it is in or has failed. Call it at once after `add`. Raises ShuttingDown, Unavailable."""
        ends = [self.fill.end_of(document.id) for document in documents]
        settled: list[Document] = []
        for end, document in zip(ends, documents, strict=True):
            ended = document if end is None else await asyncio.shield(end)
            settled.append(ended or replace(document, status=Status.FAILED, error="it was deleted meanwhile"))
        return tuple(settled)

    async def listed(self, store_id: str, caller: Caller) -> tuple[Document, ...]:
        """Raises NotFound."""
        store = (await self.stores.reach(store_id, caller, Act.READ)).store
        return await self._all(store.id)

    async def one(self, store_id: str, given: str, caller: Caller) -> tuple[Document, Parsed | None]:
        """By id or filename, with its text where it is in. Raises NotFound."""
        store = (await self.stores.reach(store_id, caller, Act.READ)).store
        document = (await self._named(store.id, given))[0]
        return document, await self.fill.shelf.text(store.id, document.id)

    async def remove(self, store_id: str, given: str, caller: Caller) -> str:
        """By id or filename; gives the id. None of its chunks is found any more. Raises NotFound, Forbidden."""
        store = (await self.stores.reach(store_id, caller, Act.WRITE)).store
        async with self.fill.lock(store.id):
            documents = await self._named(store.id, given)
            for document in documents:
                await self.fill.forget(document)
                await self.fill.shelf.remove(store.id, document.id)
        await self.stores.book.touch(store.id, datetime.now(UTC))
        return documents[0].id

    async def again(self, store_id: str, given: str, caller: Caller) -> Document:
        """Cut and embed a document anew, or try one again that failed. Raises NotFound, and as `add` does."""
        store = (await self.stores.reach(store_id, caller, Act.WRITE)).store
        document = (await self._named(store.id, given))[0]
        if document.status is Status.PENDING:
            return document
        self.fill.check_room(1)
        self.embed.check_left(store.vectorizer, caller)
        pending = replace(document, status=Status.PENDING, error="", progress=0.0)
        if document.status is Status.FAILED:
            await self.fill.ingests.retry(document.id)
            self.fill.start(document.id)
        else:
            await self.fill.enqueue([self._ingest(pending, caller)])
        return pending

    async def delete_store(self, store_id: str, caller: Caller) -> str:
        """With everything in it. Raises NotFound, Forbidden."""
        store = (await self.stores.reach(store_id, caller, Act.DELETE)).store
        async with self.fill.lock(store.id):
            under_way = await self.fill.ingests.of_store(store.id)
            await self.stores.book.delete(store.id)
            for document in under_way:
                await self.fill.abandon(document)
            await self.fill.shelf.drop(store.id)
        return store.id

    async def _named(self, store_id: str, given: str) -> list[Document]:
        """All that the name means, the one that is in first. Raises NotFound."""
        documents = await self._all(store_id)
        fitting = [one for one in documents if one.id == given] or [one for one in documents if one.filename == given]
        if not fitting:
            raise not_there(given)
        return sorted(fitting, key=lambda one: one.status is not Status.INDEXED)

    async def _all(self, store_id: str) -> tuple[Document, ...]:
        """Those on their way are read first, so that one which arrives meanwhile is not missed."""
        under_way = await self.fill.ingests.of_store(store_id)
        there = {one.id: one for one in await self.fill.shelf.documents(store_id)}
        moving = {
            one.id: replace(one, progress=self.fill.progress(one.id))
            for one in under_way
            if one.id not in there or one.status is Status.PENDING
        }
        gone = [one_id for one_id in moving if one_id in there and await self.fill.ingests.find(one_id) is None]
        both = there | {one_id: one for one_id, one in moving.items() if one_id not in gone}
        return tuple(sorted(both.values(), key=lambda one: (one.created_at, one.id)))


def keep_files(files: Sequence[tuple[Path, Path]]) -> None:
    """Move them to where they stay; on disk for good afterwards."""
    for came, stays in files:
        with came.open("rb") as file:
            os.fsync(file.fileno())
        came.replace(stays)
    for folder in {stays.parent for _, stays in files}:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
