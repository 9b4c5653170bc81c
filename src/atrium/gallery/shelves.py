"""Models that are served where they lie, and what is said of each model in a file of its own.

Adopted folders and configurations are looked through again and again; what changed counts from the next request on. A
configuration that cannot be read leaves the last good one in force. Implements `core.ports.ModelConfigs`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from atrium.core.errors import ConfigError, InvalidValue, NotFound
from atrium.core.events import Tell
from atrium.core.models import Ability, ModelCard, Said
from atrium.gallery.adopt import Found, Stamp, find_file, find_models, named_apart, stamp_of
from atrium.gallery.cards import card_of, choose_projector, with_projector
from atrium.gallery.configs import Configs
from atrium.gallery.files import write_whole
from atrium.gallery.inspected import Inspected
from atrium.gallery.inspection import Inspections, Verdict
from atrium.gallery.library import Arranged, Library
from atrium.gallery.model_yaml import as_yaml, file_name, parse_said

REST = 20
"""A look through the folders may take one part in so many of the time; opening what is new in them does not count."""
SETTLED = 1.0
"""Seconds since its last change after which a file counts as whole."""
BUSY_WAIT = 0.2
"""Seconds until a file that is still being written is looked at again."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One look through all places."""

    found: tuple[Found, ...]
    files: tuple[tuple[str, Found], ...]
    """Of the configurations that name a file, by the path that they give."""
    unread: tuple[tuple[Stamp, ...], ...]
    """Files that nobody has looked into yet."""
    growing: bool
    """Some of those were changed a moment ago."""


@dataclass(slots=True)
class Heard:
    """What was told as an event already, so that it is told once."""

    models: dict[str, str] = field(default_factory=dict[str, str])
    problems: dict[str, str] = field(default_factory=dict[str, str])


class Shelves:
    """Use as an async context manager: entering it looks once, and goes on looking until it is left."""

    def __init__(
        self, library: Library, folders: Sequence[Path], tell: Tell, *, rescan: float, unstated_context: int
    ) -> None:
        self._library = library
        self._folders = folders
        self._tell = tell
        self._rescan = rescan
        self._unstated_context = unstated_context
        self._inspections = Inspections(library.folder / "inspected")
        self._configs = Configs(library.folder, self._note)
        self._heard = Heard()
        self._to_tell: list[tuple[str, dict[str, object]]] = []
        """Noted in a thread, told on the loop."""
        self._one_at_a_time = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()

    async def __aenter__(self) -> Self:
        began = time.monotonic()
        seen = await self.refresh()
        watch = self._watch(seen, time.monotonic() - began)
        self._watching = asyncio.create_task(watch, name="adopted models")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._watching:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)

    async def settled(self) -> None:
        """Returns once everything that was found has been looked into."""
        await self._settled.wait()

    async def rescan(self) -> None:
        """Look again, now, and into every file that is new."""
        await self._open((await self.refresh(hurried=True)).unread)

    async def refresh(self, *, hurried: bool = False) -> Seen:
        """Read all configurations and look at all names; files that are new are opened later.

        Hurried: files that were changed a moment ago count as whole, since somebody says so.
        """
        async with self._one_at_a_time:
            seen = await asyncio.to_thread(self._look, 0.0 if hurried else SETTLED)
            await asyncio.to_thread(self._arrange, seen)
            for name, fields in self._to_tell:
                self._tell(name, fields)
            self._to_tell.clear()
        return seen

    # What services ask for.

    def said(self, name: str) -> Said | None:
        return next((one for one in self._configs.said() if one.name == name), None)

    async def write(self, said: Said) -> None:
        """Raises InvalidValue for what could not be read back, DiskFull."""
        path = await asyncio.to_thread(self._path_of, said.name)
        text = as_yaml(said)
        try:
            parse_said(text, path)
        except ConfigError as error:
            raise InvalidValue(error.message, hint=error.hint, param="model") from None
        if said.file and not await asyncio.to_thread(Path(said.file).is_file):
            raise NotFound(f"There is no file {said.file}", param="path")
        await asyncio.to_thread(write_whole, path, text.encode())
        await self.rescan()

    async def copy(self, source: ModelCard, said: Said) -> None:
        if source.adopted:
            said = replace(said, file=source.path, base="")
        elif source.name != said.name:
            await asyncio.to_thread(self._library.share, source, said.name)
            said = replace(said, base="")
        await self.write(said)

    async def remove(self, name: str) -> bool:
        path = self._configs.path_of(name)
        if path is None:
            return False
        await asyncio.to_thread(path.unlink, missing_ok=True)
        await self.refresh()
        return True

    def _path_of(self, name: str) -> Path:
        """The file that speaks of this model already, else the one that is named after it. Blocking."""
        path = self._configs.path_of(name)
        return path if path and path.exists() else self._library.folder / file_name(name)

    # The watch.

    async def _watch(self, first: Seen, took: float) -> None:
        """The root of a task: whatever a folder holds, looking goes on. `took`: seconds that the first look did."""
        seen: Seen | None = first
        while True:
            growing = False
            try:
                if seen is None:
                    began = time.monotonic()
                    seen = await self.refresh()
                    took = time.monotonic() - began
                growing = seen.growing
                await self._open(seen.unread)
            except Exception as error:  # noqa: BLE001 - a task's root: told as an event
                self._tell("model.damaged", {"model": "", "error": repr(error)})
            seen = None
            if not growing:
                self._settled.set()
            await asyncio.sleep(BUSY_WAIT if growing else max(self._rescan, took * REST))

    async def _open(self, unread: Sequence[Sequence[Stamp]]) -> None:
        """Look into files that are new, each in a child, and list each model as soon as it is known."""
        for parts in unread:
            await self._inspections.look(parts)
            await self.refresh()

    # In a thread: everything below reads folders.

    def _look(self, rested: float) -> Seen:
        self._configs.read()
        found = named_apart(one for folder in self._folders for one in find_models(folder))
        wanted = {one.file for one in self._configs.said() if one.file}
        files = {path: one for path in sorted(wanted) if (one := find_file(Path(path)))}
        models = [*found, *files.values()]
        groups = [one.parts for one in models if not one.missing]
        groups += [(stamp,) for one in models for stamp in one.beside]
        groups += [(stamp,) for path in self._projectors() if (stamp := stamp_of(path))]
        unread = [parts for parts in dict.fromkeys(groups) if self._inspections.recall(parts) is None]
        now = time.time() * 1e9
        # A file of the future comes from a clock that was wrong, and is waited for in vain.
        settled = [
            parts for parts in unread if not rested or all(not 0 <= now - stamp[2] <= rested * 1e9 for stamp in parts)
        ]
        return Seen(tuple(found), tuple(files.items()), tuple(settled), growing=len(settled) < len(unread))

    def _projectors(self) -> list[Path]:
        named = {one.config.projector for one in self._configs.said()}
        return [Path(path) for path in sorted(path for path in named if path)]

    def _arrange(self, seen: Seen) -> None:
        problems: dict[str, str] = {}
        adopted = {one.name: card for one in seen.found if (card := self._card(one, problems))}
        files = {path: card for path, one in seen.files if (card := self._card(one, problems))}
        said = self._configs.said()
        for one in said:
            if one.file and one.file not in files:
                problems.setdefault(one.name, f"there is no model in {one.file}")
        broken = self._configs.problems()
        problems |= broken
        known = sum(self._recall(stamp) is not None for path in self._projectors() if (stamp := stamp_of(path)))
        self._library.arrange(Arranged(adopted, tuple(said), files, problems, known), self._with_sight)
        self._tell_changes(adopted, self._library.snapshot().problems, set(broken.values()))

    def _card(self, found: Found, problems: dict[str, str]) -> ModelCard | None:
        if found.missing:
            problems[found.name] = f"{found.missing} of the parts of {found.path} are missing"
            return None
        verdict = self._inspections.recall(found.parts)
        if isinstance(verdict, str):
            problems[found.name] = verdict
        if not isinstance(verdict, Inspected) or verdict.kind != "model":
            return None
        card = card_of(found, verdict, unstated_context=self._unstated_context)
        beside = [(stamp, one) for stamp in found.beside if isinstance(one := self._recall(stamp), Inspected)]
        projector, why_not = choose_projector(card, beside)
        if why_not:
            problems[found.name] = why_not
        if projector is None:
            return card
        return with_projector(card, projector)

    def _recall(self, stamp: Stamp) -> Verdict | None:
        return self._inspections.recall((stamp,))

    def _with_sight(self, card: ModelCard, problems: dict[str, str]) -> ModelCard:
        """A card whose configuration names a projector, or that it wants none."""
        named = card.config.projector
        if named is None:
            return card
        blind = replace(card, projector=None, abilities=card.abilities - {Ability.VISION})
        if not named:
            return blind
        stamp = stamp_of(Path(named))
        verdict = self._recall(stamp) if stamp else f"there is no file {named}"
        if stamp is None or not isinstance(verdict, Inspected):
            if verdict is not None:
                problems[card.name] = f"its projector cannot be used: {verdict}"
            return blind
        projector, why_not = choose_projector(blind, [(stamp, verdict)])
        if projector is None:
            problems[card.name] = why_not or f"{named} is no projector"
            return blind
        return with_projector(blind, projector)

    def _tell_changes(self, adopted: dict[str, ModelCard], problems: Mapping[str, str], broken: Container[str]) -> None:
        for name, card in adopted.items():
            if self._heard.models.get(name) != card.digest:
                self._note("model.adopted", {"model": name, "path": card.path})
        for name in self._heard.models.keys() - adopted.keys():
            self._note("model.gone", {"model": name})
        for name, error in problems.items():
            if self._heard.problems.get(name) != error and error not in broken:
                self._note("model.damaged", {"model": name, "error": error})
        self._heard = Heard({name: card.digest for name, card in adopted.items()}, dict(problems))

    def _note(self, name: str, fields: dict[str, object]) -> None:
        self._to_tell.append((name, fields))
