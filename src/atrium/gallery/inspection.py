"""Looking into model files in bounded children, each file once: what was learnt is kept beside the models."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from atrium.core.errors import InstallFailed
from atrium.gallery.adopt import Stamp
from atrium.gallery.children import run_worker
from atrium.gallery.files import write_whole
from atrium.gallery.inspected import Inspected

MOST_KEPT = 2000
"""Files of which it is remembered what is in them."""
FORM = 1
"""Of what is kept: another number, and everything is looked at anew."""

Verdict = Inspected | str
"""What is in a file, or why it cannot be used."""


class Inspections:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, Verdict] = {}

    def recall(self, parts: Sequence[Stamp]) -> Verdict | None:
        """What is known of these files as they are now. Blocking."""
        key = key_of(parts)
        if key not in self._known:
            try:
                self._known[key] = msgspec.json.decode((self._folder / f"{key}.json").read_bytes(), type=Inspected)
            except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
                return None
        return self._known[key]

    async def look(self, parts: Sequence[Stamp]) -> Verdict:
        """Open the files. What cannot be used is remembered too, until the file changes or the server starts anew."""
        try:
            said = await run_worker("inspect_gguf", *(part[0] for part in parts))
            verdict: Verdict = msgspec.json.decode(said, type=Inspected)
        except InstallFailed as error:
            verdict = error.message
        except msgspec.MsgspecError as error:
            verdict = f"The model file cannot be used: {error}"
        if len(self._known) >= MOST_KEPT:
            self._known.clear()
        self._known[key_of(parts)] = verdict
        if isinstance(verdict, Inspected):
            await asyncio.to_thread(self._keep, key_of(parts), verdict)
        return verdict

    def _keep(self, key: str, verdict: Inspected) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        kept = sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
        for old in kept[: max(0, len(kept) - MOST_KEPT + 1)]:
            old.unlink(missing_ok=True)
        write_whole(self._folder / f"{key}.json", msgspec.json.encode(verdict))


def key_of(parts: Sequence[Stamp]) -> str:
    return hashlib.sha256(repr((FORM, parts)).encode()).hexdigest()
