"""Ports of the gallery that only Ollama's API needs: files that clients send, and what is in files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from atrium.core.models import ModelCard


class SentFiles(Protocol):
    """Files that clients sent to have models made of them, each known by its sha256 in hex; kept for a while."""

    async def has(self, digest: str) -> bool: ...

    def path(self, digest: str) -> str:
        """Where the file lies, if it is here."""
        ...

    async def take(self, digest: str, pieces: AsyncIterator[bytes], size: int | None) -> None:
        """`size`: as the sender told it. Raises InvalidValue for other contents, TooLarge, DiskFull."""
        ...


class Contents(Protocol):
    async def lists(self, card: ModelCard) -> Mapping[str, bytes]:
        """The long entries of a model's file, such as its vocabulary, each as JSON. Raises InstallFailed."""
        ...
