"""Document stores: what is in them, who may do what with them, and what a search finds.

Positions are counted in characters of a document's text: `text[start:end]` is a chunk's text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from pathlib import Path

from atrium.core.requests import JsonValue

Metadata = Mapping[str, JsonValue]


class Permission(Enum):
    """What somebody is to a store. Source: contract `lollms.md`, section 9."""

    OWNER = "owner"
    REVECTORIZE = "revectorize"
    READ_WRITE = "read_write"
    READ_QUERY = "read_query"
    PUBLIC = "public"
    """Nothing but that the store is public."""


class Act(Enum):
    """What somebody wants with a store."""

    READ = "read"
    """See, query, read its documents."""
    WRITE = "write"
    """Add and delete documents."""
    GOVERN = "govern"
    """Share, rename, publish."""
    DELETE = "delete"


class Mode(Enum):
    """How a search finds."""

    VECTOR = "vector"
    TEXT = "text"
    HYBRID = "hybrid"


class Status(Enum):
    PENDING = "pending"
    INDEXED = "indexed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Store:
    id: str
    """A UUID."""
    owner_id: int
    owner: str
    """The owner's name."""
    name: str
    description: str
    vectorizer: str
    """Name of the embedding model that made its vectors."""
    is_public: bool
    chunk_size: int
    """Most characters of a chunk."""
    chunk_overlap: int
    """About how many characters a chunk shares with the one before it."""
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class StoreChange:
    """What is None stays as it is."""

    name: str | None = None
    description: str | None = None
    is_public: bool | None = None


@dataclass(frozen=True, slots=True)
class Reached:
    """A store as one caller sees it."""

    store: Store
    permission: Permission


@dataclass(frozen=True, slots=True)
class Share:
    user_id: int
    username: str
    permission: Permission


@dataclass(frozen=True, slots=True)
class Page:
    """Where a page or slide stands in its document's text; pages count from 1."""

    number: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a parser makes of a file."""

    text: str
    pages: tuple[Page, ...] = ()
    """In order; empty for what has no pages."""
    title: str = ""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document's text."""

    start: int
    end: int
    text: str
    page: int | None = None
    """The page that it begins on."""


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a store, indexed or not yet."""

    id: str
    """A UUID."""
    store_id: str
    filename: str
    size: int
    """Bytes of the file."""
    digest: str
    """SHA-256 of the file, in hex."""
    created_at: datetime
    metadata: Metadata = field(default_factory=dict[str, JsonValue])
    status: Status = Status.PENDING
    chunks: int = 0
    error: str = ""
    """Why it failed; empty otherwise."""
    progress: float = 0.0
    """Share of the work that is done, from 0 to 1."""


@dataclass(frozen=True, slots=True)
class Indexed:
    """A document with all that is kept of it, ready to be put into a store in one step."""

    document: Document
    parsed: Parsed
    chunks: tuple[Chunk, ...]
    vectors: tuple[bytes, ...]
    """One for each chunk: little-endian float32, unit length."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that has come in and lies at `path` until it is taken or dropped."""

    filename: str
    path: Path
    size: int
    digest: str
    metadata: Metadata = field(default_factory=dict[str, JsonValue])


@dataclass(frozen=True, slots=True)
class Ingest:
    """A document on its way into a store: kept until it is in, so that it goes on after whatever stopped it."""

    document: Document
    user_id: int | None
    """Who brought it."""
    key_id: int | None
    """With which key."""
    home: str
    """The data folder that its file lies in."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A chunk by its id with how well it fits; greater is better."""

    chunk_id: int
    score: float


@dataclass(frozen=True, slots=True)
class Found:
    """A chunk with where it stands."""

    chunk_id: int
    chunk: Chunk
    document_id: str
    filename: str
    metadata: Metadata
    similarity: float
    """Cosine to the query's vector."""


@dataclass(frozen=True, slots=True)
class Citation:
    """A passage that was put before a model."""

    number: int
    """As the model may cite it: `[1]` is the first."""
    store: Store
    found: Found


@dataclass(frozen=True, slots=True)
class Query:
    text: str
    top_k: int = 10
    least_percent: float | None = None
    """Similarity in percent that a hit must have: (cosine + 1) / 2 x 100. None: the mode's own."""
    mode: Mode = Mode.VECTOR
    where: Metadata = field(default_factory=dict[str, JsonValue])
    """Members that a document's metadata must have with exactly these values."""


@dataclass(frozen=True, slots=True)
class Tally:
    """How much is in a store."""

    documents: int = 0
    chunks: int = 0
