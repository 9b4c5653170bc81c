"""What the suites of shelves put into them."""

from __future__ import annotations

import math
import struct
import uuid
from datetime import UTC, datetime

from atrium.core.documents import Chunk, Document, Indexed, Page, Parsed, Status
from atrium.core.requests import JsonValue

NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
DIMENSIONS = 16


def unit(*numbers: float, dimensions: int = DIMENSIONS) -> bytes:
    padded = [*numbers, *([0.0] * (dimensions - len(numbers)))]
    length = math.hypot(*padded)
    return struct.pack(f"<{dimensions}f", *(x / length for x in padded))


def indexed(
    store: str, filename: str, texts: list[str], vectors: list[bytes], metadata: dict[str, JsonValue] | None = None
) -> Indexed:
    whole = "\n".join(texts)
    chunks: list[Chunk] = []
    at = 0
    for text in texts:
        chunks.append(Chunk(at, at + len(text), text, 1))
        at += len(text) + 1
    document = Document(
        str(uuid.uuid4()), store, filename, 10, f"digest of {whole}", NOW, metadata or {}, Status.INDEXED, len(texts)
    )
    return Indexed(document, Parsed(whole, (Page(1, 0, len(whole)),), "Title"), tuple(chunks), tuple(vectors))
