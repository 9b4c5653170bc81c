"""Finding models where other programs keep them: folders of GGUF files however nested, hub caches, Ollama's store.

Nothing is read but names, sizes and small manifests, and nothing is ever written. All of it blocks.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from atrium.gallery.build import name_of
from atrium.gallery.ollama_store import is_store, stored

MOST_ENTRIES = 50_000
"""Names of files and folders that are looked at in one adopted folder."""
DEEPEST = 12
SPLIT = re.compile(r"(?P<stem>.+)-(?P<part>\d{5})-of-(?P<parts>\d{5})\.gguf", re.IGNORECASE)
HUB = "models--"
PROJECTOR = re.compile(r"mmproj", re.IGNORECASE)

Stamp = tuple[str, int, int, int]
"""Path, bytes, time of change in nanoseconds, and inode of one file."""


@dataclass(frozen=True, slots=True)
class Found:
    """A model as its place tells of it, before any of its files was opened."""

    name: str
    parts: tuple[Stamp, ...]
    """Its file, or all the files that it was split into, in order."""
    missing: int = 0
    """Parts that are not there."""
    beside: tuple[Stamp, ...] = ()
    """Files of the same folder that may be its projector."""
    digest: str = ""
    """sha256 of the file where its place tells it."""
    system: str = ""
    template: str = ""
    """Of Ollama's kind, which is no Jinja; told to who asks."""
    parameters: tuple[tuple[str, object], ...] = ()
    license: str = ""
    messages: tuple[tuple[str, str], ...] = ()

    @property
    def path(self) -> str:
        return self.parts[0][0]

    @property
    def size(self) -> int:
        return sum(stamp[1] for stamp in self.parts)


def stamp_of(path: Path) -> Stamp | None:
    """None where there is no such file any more."""
    try:
        told = path.stat()
    except OSError:
        return None
    return str(path), told.st_size, told.st_mtime_ns, told.st_ino


def find_models(folder: Path) -> list[Found]:
    """What is in an adopted folder, names not yet made unique."""
    counted = [0]
    found: list[Found] = []
    for place, files in walk(folder.expanduser(), counted):
        if is_store(place):
            found += from_store(place)
        else:
            found += from_files(files)
    return found


def find_file(path: Path) -> Found | None:
    """A model given by its file's path; with a part of a split model come the others."""
    stamp = stamp_of(path)
    if stamp is None:
        return None
    beside = sorted(other for other in path.parent.glob("*.[gG][gG][uU][fF]") if other.is_file())
    for one in from_files(beside):
        if str(path) in (part[0] for part in one.parts):
            return one
    return Found(name_of(path), (stamp,), beside=stamps(p for p in beside if PROJECTOR.search(p.name) and p != path))


def walk(
    folder: Path, counted: list[int], depth: int = 0, seen: frozenset[str] = frozenset()
) -> Iterator[tuple[Path, list[Path]]]:
    """Folders with their GGUF files; links to folders are followed, but never in a circle."""
    real = os.path.realpath(folder)
    if depth > DEEPEST or real in seen:
        return
    if is_store(folder):
        yield folder, []
        return
    files: list[Path] = []
    folders: list[Path] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                counted[0] += 1
                if counted[0] > MOST_ENTRIES:
                    break
                if entry.is_dir():
                    folders.append(Path(entry.path))
                elif entry.name.lower().endswith(".gguf") and entry.is_file():
                    files.append(Path(entry.path))
    except OSError:
        return
    yield folder, sorted(files)
    if folder.name.startswith(HUB) and (folder / "snapshots").is_dir():
        folders = [snapshot_of(folder)]
    for inner in sorted(folders):
        yield from walk(inner, counted, depth + 1, seen | {real})


def snapshot_of(repository: Path) -> Path:
    """The revision that a hub's cache calls `main`, else the latest."""
    snapshots = repository / "snapshots"
    try:
        main = (repository / "refs" / "main").read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        main = ""
    if main and (snapshots / main).is_dir():
        return snapshots / main
    return max(snapshots.iterdir(), key=lambda path: path.stat().st_mtime_ns, default=snapshots)


def from_files(files: Iterable[Path]) -> list[Found]:
    """Models of one folder: split ones joined, projectors put beside them."""
    all_of_them = list(files)
    projectors = stamps(path for path in all_of_them if PROJECTOR.search(path.name))
    splits: dict[tuple[Path, str, int], dict[int, Path]] = {}
    found: list[Found] = []
    for path in all_of_them:
        if PROJECTOR.search(path.name):
            continue
        if split := SPLIT.fullmatch(path.name):
            key = (path.parent, split["stem"], int(split["parts"]))
            splits.setdefault(key, {})[int(split["part"])] = path
        elif stamp := stamp_of(path):
            found.append(Found(name_of(path), (stamp,), beside=projectors))
    for (_, stem, parts), there in splits.items():
        here = stamps(there[number] for number in sorted(there))
        missing = parts - sum(1 for number in there if 0 < number <= parts)
        if here:
            found.append(Found(name_of(Path(f"{stem}.gguf")), here, missing, beside=projectors))
    return found


def stamps(paths: Iterable[Path]) -> tuple[Stamp, ...]:
    return tuple(stamp for path in paths if (stamp := stamp_of(path)))


def from_store(store: Path) -> Iterator[Found]:
    for one in stored(store):
        stamp = stamp_of(one.weights)
        if stamp is None:
            continue
        yield Found(
            one.name,
            (stamp,),
            beside=stamps(one.projectors),
            digest=one.digest,
            system=one.system,
            template=one.template,
            parameters=one.parameters,
            license=one.license,
            messages=one.messages,
        )


def named_apart(found: Iterable[Found]) -> list[Found]:
    """Each under a name of its own: the second of a name is also called after its folder, and then by number.

    The same file found twice counts once.
    """
    names: set[str] = set()
    files: set[int | str] = set()
    apart: list[Found] = []
    for one in found:
        key = one.parts[0][3] or one.path
        if not one.digest and key in files:
            continue
        files.add(key)
        name = one.name
        if name in names:
            name = f"{name_of(Path(Path(one.path).parent.name + '.gguf'))}-{one.name}"
        number = 2
        unnumbered = name
        while name in names:
            name = f"{unnumbered}-{number}"
            number += 1
        names.add(name)
        apart.append(replace(one, name=name))
    return apart
