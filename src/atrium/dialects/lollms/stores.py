"""What LoLLMs' clients say and read of document stores. Source: contract `lollms.md`, section 9."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import orjson

from atrium.core.documents import (
    Document,
    Found,
    Metadata,
    Mode,
    Parsed,
    Permission,
    Query,
    Share,
    Status,
    Store,
    StoreChange,
    Tally,
)
from atrium.core.errors import InvalidJson, InvalidValue, Unprocessable
from atrium.core.requests import JsonValue
from atrium.dialects.bounds import RequestBounds
from atrium.dialects.fields import Fields, as_fields, wrong
from atrium.dialects.json_text import parse_object

MOST_HITS = 1000
INT31 = 2**31 - 1
SCORE_DIGITS = 6
PERCENT_DIGITS = 4


@dataclass(frozen=True, slots=True)
class StoreCall:
    """A store to be made."""

    name: str
    description: str
    vectorizer: str
    is_public: bool
    chunk_size: int | None
    chunk_overlap: int | None


@dataclass(frozen=True, slots=True)
class QueryCall:
    datastore_id: str
    query: Query


@dataclass(frozen=True, slots=True)
class ShareCall:
    username: str
    permission: Permission


@dataclass(frozen=True, slots=True)
class GivenText:
    """A document that comes as text."""

    filename: str
    text: str
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class GivenFile:
    filename: str
    data: bytes


@contextmanager
def schema() -> Generator[None]:
    """What does not fit the schema is 422 on these paths."""
    try:
        yield
    except InvalidValue as error:
        raise Unprocessable(error.message, hint=error.hint, param=error.param) from None


def read(raw: bytes, bounds: RequestBounds) -> Fields:
    """Raises InvalidJson."""
    return Fields(parse_object(raw, depth=bounds.depth, items=bounds.items))


def parse_store(raw: bytes, bounds: RequestBounds) -> StoreCall:
    """Raises InvalidJson, Unprocessable."""
    fields = read(raw, bounds)
    with schema():
        return StoreCall(
            name=fields.needed_text("name"),
            description=fields.text("description") or "",
            vectorizer=fields.text("vectorizer") or fields.text("vectorizer_name") or "",
            is_public=fields.flag("is_public"),
            chunk_size=fields.integer("chunk_size", 1, INT31),
            chunk_overlap=fields.integer("chunk_overlap", 0, INT31),
        )


def parse_change(raw: bytes, bounds: RequestBounds) -> StoreChange:
    """Raises InvalidJson, Unprocessable."""
    fields = read(raw, bounds)
    with schema():
        public = fields.flag("is_public") if fields.has("is_public") else None
        return StoreChange(fields.text("name"), fields.text("description"), public)


def parse_share(raw: bytes, bounds: RequestBounds) -> ShareCall:
    """Raises InvalidJson, Unprocessable."""
    fields = read(raw, bounds)
    with schema():
        levels = ("read_query", "read_write", "revectorize")
        level = fields.one_of("permission_level", levels) or levels[0]
        return ShareCall(fields.needed_text("target_username"), Permission(level))


def parse_query(raw: bytes, bounds: RequestBounds) -> QueryCall:
    """Raises InvalidJson, Unprocessable."""
    fields = read(raw, bounds)
    with schema():
        text = fields.needed_text("query")
        if not text.strip():
            raise InvalidValue("'query' is blank", param="query")
        where = fields.inner("filter")
        query = Query(
            text=text,
            top_k=fields.integer("top_k", 1, MOST_HITS) or 10,
            least_percent=fields.number("min_similarity", 0, 100),
            mode=Mode(fields.one_of("mode", tuple(mode.value for mode in Mode)) or Mode.VECTOR.value),
            where=where.values if where else {},
        )
        return QueryCall(fields.needed_text("datastore_id"), query)


def parse_texts(raw: bytes, bounds: RequestBounds, most: int) -> tuple[GivenText, ...]:
    """Documents in the body itself. Raises InvalidJson, Unprocessable."""
    fields = read(raw, bounds)
    with schema():
        items = fields.items("documents", most)
        if not items:
            raise InvalidValue("'documents' is required and must not be empty", param="documents")
        return tuple(given_text(as_fields(item, f"documents[{place}]")) for place, item in enumerate(items))


def given_text(fields: Fields) -> GivenText:
    text = fields.text("text")
    if text is None:
        raise InvalidValue(f"'{fields.place('text')}' is required", param=fields.place("text"))
    metadata = fields.inner("metadata")
    return GivenText(fields.needed_text("filename"), text, metadata.values if metadata else {})


def parse_metadata(text: str, bounds: RequestBounds) -> Mapping[str, JsonValue]:
    """The form's field `metadata`. Raises Unprocessable."""
    with schema():
        try:
            return parse_object(text.encode("utf-8", "replace"), depth=bounds.depth, items=bounds.items)
        except InvalidJson:
            raise InvalidValue("'metadata' must be a JSON object", param="metadata") from None


def parse_file(raw: bytes, bounds: RequestBounds) -> GivenFile:
    """A file as base64. Raises InvalidJson, Unprocessable, InvalidValue for what is no base64."""
    fields = read(raw, bounds)
    with schema():
        given = fields.needed_text("file")
        filename = fields.text("filename") or ""
    start, comma, rest = given.partition(",")
    if comma and start.startswith("data:"):
        given = rest
    try:
        return GivenFile(filename, base64.b64decode("".join(given.split()), validate=True))
    except (binascii.Error, ValueError):
        raise wrong("file", "base64", given) from None


def store_object(store: Store, permission: Permission | None, tally: Tally) -> dict[str, object]:
    """`permission`: None where it is told to who has none."""
    return {
        "id": store.id,
        "name": store.name,
        "description": store.description,
        "vectorizer": store.vectorizer,
        "is_public": store.is_public,
        "owner_username": store.owner,
        "permission_level": permission.value if permission else None,
        "document_count": tally.documents,
        "chunk_count": tally.chunks,
        "chunk_size": store.chunk_size,
        "chunk_overlap": store.chunk_overlap,
        "created_at": moment(store.created_at.isoformat(timespec="seconds")),
        "updated_at": moment(store.updated_at.isoformat(timespec="seconds")),
    }


def moment(text: str) -> str:
    return text.replace("+00:00", "Z")


def document_object(document: Document) -> dict[str, object]:
    told: dict[str, object] = {
        "id": document.id,
        "filename": document.filename,
        "bytes": document.size,
        "chunks": document.chunks,
        "status": document.status.value,
        "metadata": dict(document.metadata),
        "created_at": moment(document.created_at.isoformat(timespec="seconds")),
    }
    if document.status is Status.PENDING:
        told["progress"] = round(document.progress, 3)
    if document.error:
        told["error"] = document.error
    return told


def document_body(document: Document, parsed: Parsed | None) -> bytes:
    """One document with its text, null until it is in; `pages` tells where each page stands in it."""
    places = parsed.pages if parsed else ()
    pages = [{"page": page.number, "start_pos": page.start, "end_pos": page.end} for page in places]
    return orjson.dumps({**document_object(document), "text": parsed.text if parsed else None, "pages": pages})


def list_body(rows: Sequence[dict[str, object]]) -> bytes:
    return orjson.dumps({"object": "list", "data": rows})


def share_object(share: Share) -> dict[str, object]:
    return {"user_id": share.user_id, "username": share.username, "permission_level": share.permission.value}


def hit_object(store: Store, found: Found, percent: float) -> dict[str, object]:
    return {
        "chunk_id": found.chunk_id,
        "chunk_text": found.chunk.text,
        "similarity_score": round(found.similarity, SCORE_DIGITS),
        "similarity_percent": round(percent, PERCENT_DIGITS),
        "file_path": found.filename,
        "document_metadata": dict(found.metadata),
        "start_pos": found.chunk.start,
        "end_pos": found.chunk.end,
        "page": found.chunk.page,
        "document_id": found.document_id,
        "datastore_id": store.id,
    }
