"""Files of models that clients send before they make a model of them, each known by its sha256.

They lie among what is temporary: a model that is made of one keeps its contents, and what nobody used is removed after
a day, or at the next start. Implements `core.model_ports.SentFiles`.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from atrium.core.errors import InvalidValue, TooLarge
from atrium.gallery.files import check_space, failure

KEPT = 24 * 3600.0
"""Seconds."""
PREFIX = "sent-"
BLOCK = 4 * 1024 * 1024
"""Bytes that are gathered before they are written."""


class SentFolder:
    def __init__(self, folder: Path, most: int) -> None:
        """`most`: bytes of one file."""
        self._folder = folder
        self._most = most

    def path(self, digest: str) -> str:
        return str(self._folder / f"{PREFIX}{digest}.gguf")

    async def has(self, digest: str) -> bool:
        return await asyncio.to_thread(Path(self.path(digest)).is_file)

    async def take(self, digest: str, pieces: AsyncIterator[bytes], size: int | None) -> None:
        if size is not None and size > self._most:
            raise self._too_large()
        await asyncio.to_thread(self._make_room, size or 0)
        name, file = await asyncio.to_thread(self._opened)
        try:
            with file:
                found = await self._written(file, pieces)
            if found != digest:
                raise InvalidValue(f"digest mismatch, expected sha256:{digest}, got sha256:{found}", param="digest")
            await asyncio.to_thread(os.replace, name, self.path(digest))
        except OSError as error:
            raise failure(error, Path(name)) from error
        finally:
            await asyncio.to_thread(Path(name).unlink, missing_ok=True)

    async def _written(self, file: BinaryIO, pieces: AsyncIterator[bytes]) -> str:
        """The sha256 of all that came."""
        digest = hashlib.sha256()
        gathered: list[bytes] = []
        waiting = size = 0

        def write(block: bytes) -> None:
            digest.update(block)
            file.write(block)

        async for piece in pieces:
            gathered.append(piece)
            waiting += len(piece)
            size += len(piece)
            if size > self._most:
                raise self._too_large()
            if waiting >= BLOCK:
                await asyncio.to_thread(write, b"".join(gathered))
                gathered, waiting = [], 0
        await asyncio.to_thread(write, b"".join(gathered))
        return digest.hexdigest()

    def _make_room(self, size: int) -> None:
        """Blocking. Raises DiskFull."""
        now = time.time()
        for old in self._folder.glob(f"{PREFIX}*"):
            if now - old.stat().st_mtime > KEPT:
                old.unlink(missing_ok=True)
        check_space(self._folder, size)

    def _opened(self) -> tuple[str, BinaryIO]:
        descriptor, name = tempfile.mkstemp(dir=self._folder, prefix=f"{PREFIX}part-")
        return name, os.fdopen(descriptor, "wb")

    def _too_large(self) -> TooLarge:
        return TooLarge(f"The file is larger than {self._most} bytes", hint="models.sent_size sets the bound")
