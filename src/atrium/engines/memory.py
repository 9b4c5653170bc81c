"""How much memory there is and how much is left: the machine's, or the cgroup's where that is less."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from atrium.core.errors import ConfigError

KIB = 1024
SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*(%|[KMGT]?B?)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Version:
    """Names of a memory controller's files, by version of cgroups."""

    tree: str
    limit: str
    used: str
    spare: str
    """Line of `memory.stat` for file pages that nobody uses: they count as used, and yet cost nothing to take."""


FIRST = _Version("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
SECOND = _Version("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file")
UNITS = {"": 1, "B": 1, "K": KIB, "M": KIB**2, "G": KIB**3, "T": KIB**4}


def read_memory(root: Path = Path("/")) -> int:
    """Bytes that this process and its children may use in all. Raises OSError where /proc is missing."""
    limits = [_text(group / version.limit).strip() for group, version in _groups(root)]
    return min([_meminfo(root, "MemTotal"), *(int(limit) for limit in limits if limit.isdecimal())])


def read_left(root: Path = Path("/")) -> int:
    """Bytes that could be taken now without swapping or killing. Raises OSError where /proc is missing."""
    left = [_meminfo(root, "MemAvailable")]
    for group, version in _groups(root):
        limit, used = (_text(group / name).strip() for name in (version.limit, version.used))
        if limit.isdecimal() and used.isdecimal():
            spare = re.search(rf"^{version.spare} (\d+)$", _text(group / "memory.stat"), re.MULTILINE)
            left.append(int(limit) - int(used) + (int(spare[1]) if spare else 0))
    return max(0, min(left))


def read_budget(text: str, memory: int, *, key: str = "models.memory") -> int:
    """Bytes of memory, from `70%` or a size such as `6GB`. Raises ConfigError."""
    found = SIZE.fullmatch(text.strip())
    if found is None:
        raise ConfigError(f"`{key}` is `{text}`", hint="Give a share such as 70% or a size such as 6GB")
    number, unit = float(found[1]), found[2].upper()
    if unit == "%":
        if not 0 < number <= 100:
            raise ConfigError(f"`{key}` is `{text}`", hint="A share is more than 0 and at most 100%")
        return int(memory * number / 100)
    return int(number * UNITS[unit.removesuffix("B")])


def _meminfo(root: Path, name: str) -> int:
    text = (root / "proc/meminfo").read_text(encoding="ascii")
    found = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
    if found is None:
        raise OSError(f"/proc/meminfo names no {name}")
    return int(found[1]) * KIB


def _groups(root: Path) -> Iterator[tuple[Path, _Version]]:
    """Our own group and all above it, in both versions of cgroups."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        version = FIRST if controllers else SECOND
        tree = root / version.tree
        group = tree / path.lstrip("/")
        for level in (group, *group.parents):
            yield level, version
            if level == tree:
                break


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
