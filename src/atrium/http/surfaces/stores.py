"""Document stores under `/lollms/v1/rag`, and the text of a file. Source: contract `lollms.md`, sections 6 and 9."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import orjson
from fastapi import APIRouter, Request, Response

from atrium.core.documents import Act, Document, Metadata, Permission, Reached, Status, Upload
from atrium.core.errors import InvalidValue, NotFound, TooLarge, Unprocessable, UnreadableDocument
from atrium.core.people import ANONYMOUS, Caller
from atrium.dialects.bounds import RequestBounds
from atrium.dialects.lollms.stores import (
    document_body,
    document_object,
    hit_object,
    list_body,
    parse_change,
    parse_file,
    parse_metadata,
    parse_query,
    parse_share,
    parse_store,
    parse_texts,
    share_object,
    store_object,
)
from atrium.http.reading import read_body, while_connected
from atrium.http.scope import exchange_of, header
from atrium.http.uploads import FormBounds, SentFile, reading_form
from atrium.services.promises import Documents
from atrium.services.search_store import percent
from atrium.services.store_documents import StoreDocuments
from atrium.services.stores import NewStore, Stores

JSON = "application/json"
ROOT = "/lollms/v1/rag"
FILE_FIELDS = frozenset({"files", "file", "files[]"})
ACTS_FOR = b"x-atrium-user"
"""Over the control socket: the user that a command acts for."""


@dataclass(frozen=True, slots=True)
class StoreBounds:
    form: FormBounds
    request: RequestBounds
    scratch: Path
    """Where files lie while they come in."""


def router(services: Documents, bounds: StoreBounds) -> APIRouter:
    surface = Surface(services, bounds)
    routes = APIRouter(tags=["document stores"])
    one, many = f"{ROOT}/databases/{{store_id}}", f"{ROOT}/databases"
    get = ["GET", "HEAD"]
    for path, act, methods in (
        (many, surface.listed, get),
        (many, surface.create, ["POST"]),
        (one, surface.one, get),
        (one, surface.change, ["PATCH"]),
        (one, surface.delete, ["DELETE"]),
        (f"{one}/documents", surface.documents, get),
        (f"{one}/documents", surface.add, ["POST"]),
        (f"{one}/documents/{{document:path}}/reingest", surface.again, ["POST"]),
        (f"{one}/documents/{{document:path}}", surface.document, get),
        (f"{one}/documents/{{document:path}}", surface.remove, ["DELETE"]),
        (f"{one}/share", surface.share, ["POST"]),
        (f"{one}/shared-with", surface.shares, get),
        (f"{one}/share/{{username}}", surface.unshare, ["DELETE"]),
        (f"{ROOT}/query", surface.query, ["POST"]),
        ("/lollms/v1/extract_text", surface.extract, ["POST"]),
        ("/v1/extract_text", surface.extract, ["POST"]),
        ("/api/admin/stores", surface.all, get),
    ):
        routes.add_api_route(path, act, methods=methods, response_class=Response)
    return routes


@dataclass(frozen=True, slots=True)
class Surface:
    services: Documents
    bounds: StoreBounds

    @property
    def stores(self) -> Stores:
        return self.services.stores

    @property
    def contents(self) -> StoreDocuments:
        return self.services.contents

    async def listed(self, request: Request) -> Response:
        """The stores that the caller may query."""
        seen = await self.stores.listed(await self._caller(request))
        return listing([store_object(one.store, one.permission, tally) for one, tally in seen])

    async def all(self) -> Response:
        """Every store, for administrators."""
        return listing([store_object(store, None, tally) for store, tally in await self.stores.all()])

    async def create(self, request: Request) -> Response:
        """Make a store."""
        call = parse_store(await self._body(request), self.bounds.request)
        new = NewStore(
            call.name, call.description, call.vectorizer, call.is_public, call.chunk_size, call.chunk_overlap
        )
        store = await self.stores.create(new, await self._caller(request))
        return await self._told(Reached(store, Permission.OWNER), 201)

    async def one(self, request: Request, store_id: str) -> Response:
        """One store."""
        return await self._told(await self.stores.reach(store_id, await self._caller(request), Act.READ))

    async def change(self, request: Request, store_id: str) -> Response:
        """Rename a store, describe it anew, publish it or make it private."""
        change = parse_change(await self._body(request), self.bounds.request)
        return await self._told(await self.stores.change(store_id, change, await self._caller(request)))

    async def delete(self, request: Request, store_id: str) -> Response:
        """Delete a store with everything in it."""
        gone = await self.contents.delete_store(store_id, await self._caller(request))
        return answer({"id": gone, "object": "rag.database", "deleted": True})

    async def documents(self, request: Request, store_id: str) -> Response:
        """The documents of a store, those on their way included."""
        found = await self.contents.listed(store_id, await self._caller(request))
        return listing([document_object(document) for document in found])

    async def document(self, request: Request, store_id: str, document: str) -> Response:
        """One document with its text, by id or filename."""
        caller = await self._caller(request)
        found, parsed = await self.contents.one(store_id, document, caller)
        return Response(await asyncio.to_thread(document_body, found, parsed), media_type=JSON)

    async def add(self, request: Request, store_id: str, *, wait: bool = True) -> Response:
        """Bring documents: a form with files, or texts as JSON. `wait=false` answers before they are indexed."""
        caller = await self._caller(request)
        store = (await self.stores.reach(store_id, caller, Act.WRITE)).store
        async with AsyncExitStack() as stack:
            uploads = await self._uploads(request, stack)
            taken = await self.contents.add(store, uploads, caller)
        if not wait:
            return listing([document_object(document) for document in taken], 202)
        settled = await while_connected(request.receive, self.contents.settled(taken))
        refuse_all_failed(settled)
        return listing([document_object(document) for document in settled], 201)

    async def again(self, request: Request, store_id: str, document: str) -> Response:
        """Cut and embed a document anew, or try one again that failed."""
        pending = await self.contents.again(store_id, document, await self._caller(request))
        return Response(orjson.dumps(document_object(pending)), 202, media_type=JSON)

    async def remove(self, request: Request, store_id: str, document: str) -> Response:
        """Delete a document, by id or filename."""
        gone = await self.contents.remove(store_id, document, await self._caller(request))
        return answer({"id": gone, "deleted": True})

    async def share(self, request: Request, store_id: str) -> Response:
        """Share a store with a user, or change what is shared."""
        call = parse_share(await self._body(request), self.bounds.request)
        caller = await self._caller(request)
        return answer(share_object(await self.stores.share(store_id, call.username, call.permission, caller)), 201)

    async def shares(self, request: Request, store_id: str) -> Response:
        """With whom a store is shared."""
        shares = await self.stores.shares(store_id, await self._caller(request))
        return listing([share_object(share) for share in shares])

    async def unshare(self, request: Request, store_id: str, username: str) -> Response:
        """Take a share back, at once."""
        await self.stores.unshare(store_id, username, await self._caller(request))
        return answer({"username": username, "deleted": True})

    async def query(self, request: Request) -> Response:
        """The chunks of a store that fit a query best."""
        call = parse_query(await self._body(request), self.bounds.request)
        caller = await self._caller(request)
        store = (await self.stores.reach(call.datastore_id, caller, Act.READ)).store
        search = self.services.search.within(store, call.query, caller, exchange_of(request.scope).trail)
        found = await while_connected(request.receive, search)
        hits = [hit_object(store, one, percent(one.similarity)) for one in found]
        return Response(orjson.dumps(hits), media_type=JSON)

    async def extract(self, request: Request) -> Response:
        """The text of a file."""
        body = await self._body(request)
        try:
            given = parse_file(body, self.bounds.request)
        except Unprocessable as wrong:
            if request.url.path.startswith("/lollms/"):
                raise
            # OpenAI's clients know no 422.
            raise InvalidValue(wrong.message, hint=wrong.hint, param=wrong.param) from None
        self._check_size(len(given.data), "file")
        path = self.bounds.scratch / f"extract-{secrets.token_hex(16)}"
        try:
            await asyncio.to_thread(path.write_bytes, given.data)
            parsed = await while_connected(request.receive, self.services.parser.parse(path, given.filename or "file"))
        finally:
            await asyncio.to_thread(path.unlink, missing_ok=True)
        return answer({"text": parsed.text})

    async def _caller(self, request: Request) -> Caller:
        exchange = exchange_of(request.scope)
        caller = exchange.caller or ANONYMOUS
        name = header(request.scope, ACTS_FOR)
        if not exchange.control or not name:
            return caller
        user = await self.stores.users.find(name.decode("utf-8", "replace"))
        if user is None:
            raise NotFound("There is no user of that name")
        return Caller(user.id, user.name)

    def _check_size(self, size: int, param: str) -> None:
        """Raises TooLarge."""
        if size > self.bounds.form.file:
            raise TooLarge(f"The file is larger than {self.bounds.form.file} bytes", param=param)

    def _check_metadata(self, metadata: Metadata, param: str) -> None:
        """As much as a form's field may have: it is told with every listing and every hit. Raises TooLarge."""
        if len(orjson.dumps(dict(metadata))) > self.bounds.form.field:
            raise TooLarge(f"The metadata is larger than {self.bounds.form.field} bytes", param=param)

    async def _body(self, request: Request) -> bytes:
        return await read_body(request.receive, self.bounds.form.body)

    async def _told(self, reached: Reached, status: int = 200) -> Response:
        tally = await self.stores.tally(reached.store.id)
        return answer(store_object(reached.store, reached.permission, tally), status)

    async def _uploads(self, request: Request, stack: AsyncExitStack) -> list[Upload]:
        """What was sent, as files that go when the stack is left. Raises as reading a form or JSON does."""
        kind = header(request.scope, b"content-type")
        if kind.lower().startswith(b"application/json"):
            given = parse_texts(await self._body(request), self.bounds.request, self.bounds.form.files)
            sent = [SentFile("documents", one.filename, self._spare()) for one in given]
            for place, (file, one) in enumerate(zip(sent, given, strict=True)):
                file.held += one.text.encode("utf-8", "surrogatepass")
                self._check_size(len(file.held), f"documents[{place}].text")
                self._check_metadata(one.metadata, f"documents[{place}].metadata")
            stack.push_async_callback(asyncio.to_thread, drop_files, sent)
            await asyncio.to_thread(write_files, sent)
            return [upload_of(file, one.metadata) for file, one in zip(sent, given, strict=True)]
        form = await stack.enter_async_context(
            reading_form(request.receive, kind, self.bounds.form, self.bounds.scratch)
        )
        given_metadata = form.fields.get("metadata", "").strip()
        metadata = parse_metadata(given_metadata or "{}", self.bounds.request)
        files = [file for file in form.files if file.part in FILE_FIELDS]
        if not files:
            raise Unprocessable("The form has no file in its field 'files'", param="files")
        return [upload_of(file, metadata) for file in files]

    def _spare(self) -> Path:
        return self.bounds.scratch / f"upload-{secrets.token_hex(16)}"


def answer(value: dict[str, object], status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type=JSON)


def listing(rows: Sequence[dict[str, object]], status: int = 200) -> Response:
    return Response(list_body(rows), status, media_type=JSON)


def upload_of(file: SentFile, metadata: Metadata) -> Upload:
    return Upload(file.filename, file.path, file.size, file.digest, metadata)


def write_files(files: Sequence[SentFile]) -> None:
    for file in files:
        file.size = len(file.held)
        file.hashing = hashlib.sha256(file.held)
        file.flush()


def drop_files(files: Sequence[SentFile]) -> None:
    for file in files:
        file.path.unlink(missing_ok=True)


def refuse_all_failed(documents: Sequence[Document]) -> None:
    """Raises UnreadableDocument when not one of them could be taken in."""
    if all(document.status is Status.FAILED for document in documents):
        reasons = "; ".join(dict.fromkeys(document.error for document in documents))
        raise UnreadableDocument(reasons[:2000], param="files")
