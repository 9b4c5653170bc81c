"""The built-in index: which models can be installed by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from atrium.core.models import Ability

INDEX = Path(__file__).with_name("index.yaml")


@dataclass(frozen=True, slots=True)
class Entry:
    name: str
    description: str
    licence: str
    package: str
    size: int
    """Bytes of the package."""
    needs: int
    """Bytes of disk while installing."""
    abilities: frozenset[Ability]
    build: str
    members: Mapping[str, str]
    """Path within the package to its sha256."""


def read_index(path: Path = INDEX) -> Mapping[str, Entry]:
    entries = msgspec.yaml.decode(path.read_bytes(), type=list[Entry])
    return {entry.name: entry for entry in entries}
