"""The files in which models are set up, as they were last read, and of each the last one that was good.

The last good ones lie in `configs/` of the models folder under the same names, so that a broken edit takes nothing from
a model by a restart either. Blocking.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from atrium.core.errors import AtriumError, ConfigError
from atrium.core.models import Said
from atrium.gallery.adopt import Stamp, stamp_of
from atrium.gallery.files import write_whole
from atrium.gallery.model_yaml import SUFFIX, parse_said, read_text

GOOD = "configs"
MOST_CONFIGS = 5000
Note = Callable[[str, dict[str, object]], None]


@dataclass(slots=True)
class ConfigFile:
    """One file as it was last read."""

    stamp: Stamp
    said: Said | None
    """The last that was good, if ever one was."""
    error: str = ""


class Configs:
    def __init__(self, folder: Path, note: Note) -> None:
        self.folder = folder
        self.files: Mapping[Path, ConfigFile] = {}
        self._good = folder / GOOD
        self._note = note
        self._looked = False

    def said(self) -> list[Said]:
        return [one.said for one in self.files.values() if one.said]

    def path_of(self, name: str) -> Path | None:
        """The file that speaks of a model."""
        return next((path for path, one in self.files.items() if one.said and one.said.name == name), None)

    def problems(self) -> dict[str, str]:
        return {one.said.name if one.said else path.stem: one.error for path, one in self.files.items() if one.error}

    def read(self) -> None:
        """Read what is new, and forget what is gone."""
        paths = [path for path in sorted(self.folder.glob(f"*{SUFFIX}")) if not path.name.startswith(".")]
        there = {path: stamp for path in paths[:MOST_CONFIGS] if (stamp := stamp_of(path))}
        for gone in self.files.keys() - there.keys():
            self._note("model.config_gone", {"file": gone.name})
        files = {path: one for path, one in self.files.items() if path in there}
        for path, stamp in there.items():
            known = files.get(path)
            if known is None or known.stamp != stamp:
                files[path] = self._fresh(path, stamp, known)
        if files.keys() != self.files.keys() or not self._looked:
            self._forget({path.name for path in files})
        self._looked = True
        self.files = files

    def _fresh(self, path: Path, stamp: Stamp, known: ConfigFile | None) -> ConfigFile:
        try:
            text = read_text(path)
            said = parse_said(text, path)
        except ConfigError as error:
            good = known.said if known else self._last_good(path)
            told: dict[str, object] = {"file": path.name, "error": error.sentence, "kept": good is not None}
            self._note("model.config_broken", told)
            return ConfigFile(stamp, good, error.sentence)
        self._keep(path, text)
        self._note("model.configured", {"file": path.name})
        return ConfigFile(stamp, said)

    def _last_good(self, path: Path) -> Said | None:
        """Paths in it are meant from where the file itself lies."""
        with contextlib.suppress(ConfigError):
            return parse_said(read_text(self._good / path.name), path)
        return None

    def _keep(self, path: Path, text: str) -> None:
        """A disk that takes nothing costs only the memory of it."""
        with contextlib.suppress(AtriumError, OSError):
            self._good.mkdir(mode=0o700, exist_ok=True)
            kept = self._good / path.name
            if not kept.exists() or kept.read_bytes() != text.encode():
                write_whole(kept, text.encode())

    def _forget(self, names: set[str]) -> None:
        with contextlib.suppress(OSError):
            for kept in self._good.iterdir():
                if kept.name not in names:
                    kept.unlink()
