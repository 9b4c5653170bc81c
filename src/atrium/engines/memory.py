"""How much memory there is: the machine's, or what the cgroup leaves of it."""

from __future__ import annotations

import re
from pathlib import Path

from atrium.core.errors import ConfigError

KIB = 1024
SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*(%|[KMGT]?B?)", re.IGNORECASE)
UNITS = {"": 1, "B": 1, "K": KIB, "M": KIB**2, "G": KIB**3, "T": KIB**4}


def read_memory(root: Path = Path("/")) -> int:
    """Bytes that this process and its children may use in all. Raises OSError where /proc is missing."""
    limits = [_machine(root), *_cgroup_limits(root)]
    return min(limits)


def read_budget(text: str, memory: int) -> int:
    """Bytes for all runners, from `70%` or a size such as `6GB`. Raises ConfigError."""
    found = SIZE.fullmatch(text.strip())
    if found is None:
        raise ConfigError(f"`models.memory` is `{text}`", hint="Give a share such as 70% or a size such as 6GB")
    number, unit = float(found[1]), found[2].upper()
    if unit == "%":
        if not 0 < number <= 100:
            raise ConfigError(f"`models.memory` is `{text}`", hint="A share is more than 0 and at most 100%")
        return int(memory * number / 100)
    return int(number * UNITS[unit.removesuffix("B")])


def _machine(root: Path) -> int:
    total = re.search(r"^MemTotal:\s+(\d+) kB", (root / "proc/meminfo").read_text(encoding="ascii"), re.MULTILINE)
    if total is None:
        raise OSError("/proc/meminfo names no MemTotal")
    return int(total[1]) * KIB


def _cgroup_limits(root: Path) -> list[int]:
    """Limits of our own group and of all above it, in both versions of cgroups."""
    limits: list[int] = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            tree, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            tree, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        group = tree / path.lstrip("/")
        for level in (group, *group.parents):
            if (limit := _text(level / name).strip()).isdecimal():
                limits.append(int(limit))
            if level == tree:
                break
    return limits


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
