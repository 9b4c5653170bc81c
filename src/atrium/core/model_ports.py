"""Ports of the gallery beside the installer: files that clients send, what is in files, and where files come from."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Download:
    """A file that is on its way."""

    start: int
    """Where in the file the pieces begin."""
    total: int
    """Bytes of the whole file; 0 where the server does not tell."""
    mark: str
    """Of this very content, in the server's words; empty where it gives none."""
    pieces: AsyncGenerator[bytes]
    """Raises UpstreamFailed where it breaks off."""


class Downloads(Protocol):
    def open(self, url: str, start: int, mark: str) -> AbstractAsyncContextManager[Download]:
        """The file behind an http or https address, from byte `start` on if it still has that mark, else whole.

        Raises InvalidValue for an address that is refused, NotFound, UpstreamFailed.
        """
        ...
