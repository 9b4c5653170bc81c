"""The part of the tree that is about files and document stores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from atrium.settings.marks import AtLeast, Doc, Duration, Size

MB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class FileSettings:
    max_upload: Annotated[Size, Doc("largest file that is taken")] = 100 * MB
    max_files: Annotated[int, Doc("most files in one upload"), AtLeast(1)] = 1000
    spool: Annotated[Size, Doc("a file over this is kept on disk while it comes in, not in memory")] = MB
    max_field: Annotated[Size, Doc("largest field of a form that is no file, and metadata of a document")] = MB


@dataclass(frozen=True, slots=True)
class DocumentSettings:
    chunk_tokens: Annotated[
        int, Doc("most tokens of a chunk, unless a store says otherwise; a token counts as two characters"), AtLeast(16)
    ] = 256
    overlap_tokens: Annotated[int, Doc("tokens that a chunk shares with the one before"), AtLeast(0)] = 32
    parallel: Annotated[int, Doc("documents that are taken in at the same time"), AtLeast(1)] = 2
    queue: Annotated[int, Doc("documents that may wait to be taken in; more are refused with 503"), AtLeast(1)] = 10_000
    parse_memory: Annotated[Size, Doc("memory for reading one document")] = 1024 * MB
    parse_timeout: Annotated[Duration, Doc("how long reading one document may take")] = 120.0
    max_text: Annotated[int, Doc("most characters of one document's text"), AtLeast(1)] = 64 * MB
    max_chunks: Annotated[int, Doc("most chunks of one document"), AtLeast(1)] = 200_000
    vector_memory: Annotated[
        Size,
        Doc(
            "memory for vectors of large stores; what does not fit is read from disk. On PostgreSQL with pgvector: what"
            " the database may take to build an index"
        ),
    ] = 512 * MB
    exact_below: Annotated[
        int,
        Doc("on PostgreSQL with pgvector: a store of so many chunks gets an index, a smaller one is searched exactly"),
        AtLeast(1),
    ] = 10_000
    open_stores: Annotated[int, Doc("store files that are kept open"), AtLeast(1)] = 64
    stores_per_user: Annotated[int, Doc("most stores of one user"), AtLeast(1)] = 1000
    documents_per_store: Annotated[int, Doc("most documents of one store"), AtLeast(1)] = 100_000
    query_text: Annotated[Size, Doc("largest text of a query")] = MB
