"""Atrium's own member of an answer that stands on documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from atrium.core.documents import Citation


def citations_object(citations: Sequence[Citation] | None) -> Mapping[str, object] | None:
    """`{"citations": […]}`; None for an answer that asked for no store."""
    return None if citations is None else {"citations": [citation_object(one) for one in citations]}


def citation_object(citation: Citation) -> dict[str, object]:
    found = citation.found
    return {
        "number": citation.number,
        "store_id": citation.store.id,
        "store": citation.store.name,
        "document_id": found.document_id,
        "filename": found.filename,
        "metadata": dict(found.metadata),
        "chunk_id": found.chunk_id,
        "page": found.chunk.page,
        "start_pos": found.chunk.start,
        "end_pos": found.chunk.end,
        "similarity_score": round(found.similarity, 6),
        "text": found.chunk.text,
    }
