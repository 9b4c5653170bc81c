"""What models were seen to take, by their plan's fingerprint: remembered over restarts, bounded, never needed."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import msgspec

MOST_KEPT = 512
LARGEST = 1024 * 1024


class Seen(msgspec.Struct, frozen=True, array_like=True):
    """Bytes of resident memory."""

    base: int
    """When the model had just been loaded."""
    peak: int


NEVER = Seen(0, 0)


class SeenMemory:
    """A book in memory; `load` and `save` block on the disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: dict[str, Seen] = {}
        self.changed = False

    def of(self, fingerprint: str) -> Seen:
        return self._seen.get(fingerprint, NEVER)

    def note(self, fingerprint: str, *, base: int, peak: int) -> None:
        """The latest base counts, and the highest peak. The least lately noted is forgotten at the bound."""
        if not base:
            return
        known = self._seen.pop(fingerprint, NEVER)
        now = Seen(base, max(known.peak, peak))
        self._seen[fingerprint] = now
        self.changed = self.changed or now != known
        while len(self._seen) > MOST_KEPT:
            self._seen.pop(next(iter(self._seen)))

    def load(self) -> None:
        """A file that is not there or cannot be read means that nothing was seen."""
        with contextlib.suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError):
            with self._path.open("rb") as file:
                found = msgspec.json.decode(file.read(LARGEST), type=dict[str, Seen])
            self._seen = dict(list(found.items())[-MOST_KEPT:])

    def save(self) -> None:
        """Whole or not at all; a disk that takes nothing costs only the memory of it."""
        self.changed = False
        data = msgspec.json.encode(self._seen)
        with contextlib.suppress(OSError):
            descriptor, name = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}-")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)
                Path(name).replace(self._path)
            finally:
                Path(name).unlink(missing_ok=True)
