"""Installations: a few at a time, joined by whoever asks for the same, owned until they end.

Implements `core.ports.Gallery`.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urlsplit

from atrium.core.errors import AtriumError, Conflict, Forbidden, InstallFailed, InvalidValue, ModelNotFound, NotFound
from atrium.core.events import Tell
from atrium.core.models import Available, Installing, ModelCard
from atrium.decisions.fake_address import SCHEME, fake_card
from atrium.decisions.name_model import RULE, is_model_name
from atrium.gallery.build import Builder, name_of, without_query
from atrium.gallery.index import Entry
from atrium.gallery.library import Library

ADDRESSES = ("http://", "https://")
MOST_JOBS = 64
"""Installations that may be known at once, failed ones included."""


class Installer:
    """Use as an async context manager: leaving it ends what is under way; a later start goes on from there."""

    def __init__(
        self,
        library: Library,
        builder: Builder,
        index: Mapping[str, Entry],
        tell: Tell,
        *,
        parallel: int,
        allow_fake: bool,
    ) -> None:
        self._library = library
        self._builder = builder
        self._index = index
        self._tell = tell
        self._places = asyncio.Semaphore(parallel)
        self._allow_fake = allow_fake
        self._jobs: dict[str, asyncio.Task[ModelCard]] = {}
        self._waiting: Counter[str] = Counter()
        """How many wait for each."""
        self._sources: dict[str, str] = {}
        """Where each comes from."""
        self._own: set[str] = set()
        """What goes on when nobody waits for it any more."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for job in self._jobs.values():
            job.cancel()
        await asyncio.gather(*self._jobs.values(), return_exceptions=True)

    def available(self) -> tuple[Available, ...]:
        cards = self._library.snapshot().cards
        return tuple(
            Available(e.name, e.description, e.licence, e.size, e.abilities, e.name in cards)
            for e in sorted(self._index.values(), key=lambda e: e.name)
        )

    async def install(self, source: str, *, name: str = "", held: bool = False) -> Installing:
        own = await self._name_of(source)
        name = name or own
        if not is_model_name(name):
            raise InvalidValue(f"'{name[:100]}' is no name: {RULE}", param="model")
        job = self._jobs.get(name)
        ended = job is None or job.done()
        self._check_source(name, source, busy=not ended)
        if not held:
            self._own.add(name)
        elif ended:
            self._own.discard(name)
        if ended:
            if len(self._jobs) >= MOST_JOBS:
                self._forget_ended()
            if len(self._jobs) >= MOST_JOBS:
                raise InvalidValue(f"{MOST_JOBS} installations are under way already", param="sources")
            self._library.under_way(name, Installing(name, "waiting"))
            self._sources[name] = without_query(source)
            self._jobs[name] = asyncio.create_task(self._run(name, source), name=f"install {name}")
        return self._library.snapshot().installing.get(name) or Installing(name, "waiting")

    async def finished(self, name: str) -> ModelCard:
        job = self._jobs.get(name)
        if job is not None:
            return await self._awaited(name, job)
        card = self._library.snapshot().cards.get(name)
        if card is None:
            raise ModelNotFound(f"The model '{name}' is not being installed", param="name")
        return card

    async def _awaited(self, name: str, job: asyncio.Task[ModelCard]) -> ModelCard:
        """Whoever waits may leave; the installation goes on for the others."""
        self._waiting[name] += 1
        try:
            return await asyncio.shield(job)
        except asyncio.CancelledError:
            if not job.cancelled():
                raise
            raise InstallFailed(f"The installation of '{name}' was given up", hint="Ask for it again") from None
        finally:
            self._waiting[name] -= 1
            if self._waiting[name] <= 0:
                del self._waiting[name]
                if name not in self._own:
                    job.cancel()

    async def delete(self, name: str) -> None:
        await asyncio.to_thread(self._library.remove, name)
        if (job := self._jobs.get(name)) is not None and job.done():
            del self._jobs[name]
            self._forget_ended()
        self._tell("model.deleted", {"model": name})

    def _check_source(self, name: str, source: str, *, busy: bool) -> None:
        """Files behind addresses are often named alike. Raises Conflict where one would stand for another."""
        card = self._library.snapshot().cards.get(name)
        known = self._sources.get(name, "") if busy else card.source if card and not card.adopted else ""
        if known and known != without_query(source) and (busy or source.startswith(ADDRESSES)):
            hint = "Wait for it, or delete it, and ask again"
            raise Conflict(f"There is a model '{name}' from {known} already", hint=hint, param="sources")

    async def _name_of(self, source: str) -> str:
        """The name that the model will have. Raises NotFound, Forbidden, InvalidValue."""
        if source.startswith(SCHEME):
            if not self._allow_fake:
                raise Forbidden("fake: models invent their answers", hint="For tests, set models.allow_fake to true")
            return fake_card(source, created=0).name
        if source in self._index:
            return source
        if source.startswith(ADDRESSES):
            return name_at(source)
        if source.endswith(".gguf") or "/" in source:
            path = Path(source)
            if not path.is_absolute():
                hint = "Give the http or https address of a GGUF file, or the absolute path of one on this machine"
                raise InvalidValue("Repositories are not searched for model files", hint=hint, param="sources")
            if not await asyncio.to_thread(path.is_file):
                raise NotFound(f"There is no file {path}", param="sources")
            return name_of(path)
        near = get_close_matches(source, self._index, n=3, cutoff=0.4)
        hint = f"Did you mean {' or '.join(near)}?" if near else "atrium models available lists the names"
        raise NotFound(f"There is no model '{source[:200]}' to install", hint=hint, param="sources")

    async def _run(self, name: str, source: str) -> ModelCard:
        try:
            async with self._places:
                self._tell("model.installing", {"model": name, "source": without_query(source)})
                began = time.monotonic()
                card = await self._build(name, source)
                await asyncio.to_thread(self._library.add, card)
        except asyncio.CancelledError:
            # What is here of it stays, for who asks again.
            self._library.under_way(name, None)
            raise
        except AtriumError as error:
            self._failed(name, error)
            raise
        except Exception as error:
            failure = InstallFailed(f"The installation of '{name}' failed: {error}")
            self._failed(name, failure)
            raise failure from error
        self._library.under_way(name, None)
        self._tell("model.installed", {"model": name, "seconds": round(time.monotonic() - began, 3)})
        return card

    async def _build(self, name: str, source: str) -> ModelCard:
        def show(state: Installing) -> None:
            self._library.under_way(name, state)

        if source.startswith(SCHEME):
            return fake_card(source, created=int(time.time()))
        if entry := self._index.get(source):
            return await self._builder.from_index(entry, show)
        if source.startswith(ADDRESSES):
            return await self._builder.from_address(name, source, show)
        return await self._builder.from_file(name, Path(source), show)

    def _failed(self, name: str, error: AtriumError) -> None:
        self._library.under_way(name, Installing(name, "failed", error=error.sentence))
        self._tell("model.install_failed", {"model": name, "error": error.sentence})
        job = self._jobs.get(name)
        if job is not None:
            # Failing is told by the catalog; nobody has to await the task for it.
            job.add_done_callback(lambda ended: ended.cancelled() or ended.exception())

    def _forget_ended(self) -> None:
        self._jobs = {name: job for name, job in self._jobs.items() if not job.done()}
        self._own &= self._jobs.keys()
        self._sources = {name: source for name, source in self._sources.items() if name in self._jobs}


def name_at(url: str) -> str:
    """From the file's name in an address. Raises InvalidValue."""
    try:
        path = unquote(urlsplit(url).path)
    except ValueError:
        raise InvalidValue("The address is none", param="sources") from None
    if not path.lower().endswith(".gguf"):
        hint = "Give the address of the file itself, which ends in .gguf"
        raise InvalidValue("Only GGUF files are installed from addresses", hint=hint, param="sources")
    return name_of(Path(path))
