"""Whether a document's metadata has what a filter asks for."""

from __future__ import annotations

from atrium.core.documents import Metadata
from atrium.core.requests import JsonValue


def fit_metadata(metadata: Metadata, where: Metadata) -> bool:
    """Each member of `where` must be there with exactly that value."""
    return all(name in metadata and equal(metadata[name], value) for name, value in where.items())


def equal(own: JsonValue, asked: JsonValue) -> bool:
    """As JSON has it: true is not 1, but 1.0 is."""
    return isinstance(own, bool) is isinstance(asked, bool) and own == asked
