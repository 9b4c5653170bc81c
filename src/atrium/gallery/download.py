"""A model file from an address, into a folder where a later try finds what an earlier one left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from atrium.core.errors import InstallFailed, UpstreamFailed
from atrium.core.model_ports import Download, Downloads
from atrium.gallery.files import BLOCK, check_space, failure

FIRST_WAIT = 1.0
GGUF = b"GGUF"
NOTE = ".mark"
"""How the file is called that tells of which contents the bytes are that are here."""
Progress = Callable[[int, int], None]
"""Bytes done, bytes in all."""


@dataclass(frozen=True, slots=True)
class FileDownload:
    downloads: Downloads
    attempts: int

    async def __call__(self, url: str, target: Path, progress: Progress) -> None:
        """Raises DiskFull, InstallFailed, and what opening a download raises."""
        last = ""
        for attempt in range(self.attempts):
            if attempt:
                await asyncio.sleep(FIRST_WAIT * 2 ** (attempt - 1))
            try:
                await self._once(url, target, progress)
            except UpstreamFailed as broken:
                last = broken.message
            else:
                return
        raise InstallFailed(last, hint="Try again; what is here already is not fetched a second time")

    async def _once(self, url: str, target: Path, progress: Progress) -> None:
        part, note = target.with_suffix(".part"), target.with_suffix(NOTE)
        begun, mark = await asyncio.to_thread(left_over, part, note)
        async with self.downloads.open(url, begun, mark) as download:
            if download.total:
                await asyncio.to_thread(check_space, target.parent, download.total - download.start)
            await asyncio.to_thread(note.write_text, download.mark)
            file = await asyncio.to_thread(opened, part, download.start)
            try:
                done = await written(download, file, progress)
            finally:
                await asyncio.to_thread(file.close)
        if download.total and done != download.total:
            raise UpstreamFailed(f"The file has {download.total} bytes, but only {done} came")
        await asyncio.to_thread(part.replace, target)


async def written(download: Download, file: IO[bytes], progress: Progress) -> int:
    """Bytes that are there now. Raises InstallFailed, DiskFull, UpstreamFailed."""
    done = download.start
    waiting = bytearray()

    async def flush() -> None:
        nonlocal done
        if not waiting:
            return
        if not done and not waiting.startswith(GGUF):
            raise InstallFailed("What is at this address is no GGUF file")
        await asyncio.to_thread(stored, file, bytes(waiting))
        done += len(waiting)
        waiting.clear()
        progress(done, max(done, download.total))

    async with aclosing(download.pieces) as pieces:
        try:
            async for piece in pieces:
                waiting += piece
                if len(waiting) >= BLOCK:
                    await flush()
        finally:
            # What came before a break need not come again.
            await flush()
    return done


def left_over(part: Path, note: Path) -> tuple[int, str]:
    """Of an earlier try: how many bytes, and the mark of what they are of. Blocking."""
    try:
        mark = note.read_text()
        return (part.stat().st_size, mark) if mark else (0, "")
    except (OSError, UnicodeDecodeError):
        return 0, ""


def opened(part: Path, start: int) -> IO[bytes]:
    """Blocking. Raises InstallFailed, DiskFull."""
    try:
        file = part.open("r+b" if start else "wb")
        file.seek(start)
        file.truncate()
    except OSError as error:
        raise failure(error, part) from error
    return file


def stored(file: IO[bytes], data: bytes) -> None:
    """Blocking. Raises InstallFailed, DiskFull."""
    try:
        file.write(data)
        file.flush()
    except OSError as error:
        raise failure(error, Path(file.name)) from error
