"""The machine's memory and the cgroup's, read from folders that look like /proc and /sys."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from atrium.core.errors import ConfigError
from atrium.engines.memory import read_budget, read_left, read_memory

MEMINFO = "MemTotal:       8000000 kB\nMemFree:         100 kB\nMemAvailable:    6000000 kB\n"
MACHINE = 8_000_000 * 1024


def machine(root: Path, **files: str) -> Path:
    for name, text in {"proc/meminfo": MEMINFO, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_this_machine_has_memory() -> None:
    assert 0 < read_memory() <= psutil.virtual_memory().total


def test_without_cgroups_the_machine_is_the_limit(tmp_path: Path) -> None:
    assert read_memory(machine(tmp_path)) == MACHINE


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "5000\n"}, 5000),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/memory.max": "4000\n"}, 4000),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "3000\n"}, 3000),
        ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "max\n"}, MACHINE),
        (
            {
                "proc/self/cgroup": "9:name=systemd:/x\n4:cpu,memory:/d\n0::/\n",
                "sys/fs/cgroup/memory/d/memory.limit_in_bytes": "2000\n",
            },
            2000,
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/d\n",
                "sys/fs/cgroup/memory/d/memory.limit_in_bytes": "9223372036854771712\n",
            },
            MACHINE,
        ),
    ],
)
def test_the_tightest_limit_counts(tmp_path: Path, files: dict[str, str], limit: int) -> None:
    assert read_memory(machine(tmp_path, **files)) == limit


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({}, 6_000_000 * 1024),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/memory.max": "max\n",
                "sys/fs/cgroup/a/b/memory.current": "100\n",
                "sys/fs/cgroup/a/memory.max": "5000\n",
                "sys/fs/cgroup/a/memory.current": "3000\n",
                "sys/fs/cgroup/a/memory.stat": "anon 2000\ninactive_file 500\nactive_file 100\n",
            },
            2500,
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/d\n",
                "sys/fs/cgroup/memory/d/memory.limit_in_bytes": "5000\n",
                "sys/fs/cgroup/memory/d/memory.usage_in_bytes": "4000\n",
                "sys/fs/cgroup/memory/d/memory.stat": "inactive_file 1\ntotal_inactive_file 300\n",
            },
            1300,
        ),
        (
            {
                "proc/self/cgroup": "0::/a\n",
                "sys/fs/cgroup/a/memory.max": "100\n",
                "sys/fs/cgroup/a/memory.current": "200\n",
            },
            0,
        ),
    ],
)
def test_what_is_left_is_what_the_tightest_group_has_left(tmp_path: Path, files: dict[str, str], left: int) -> None:
    assert read_left(machine(tmp_path, **files)) == left


def test_this_machine_has_memory_left() -> None:
    assert 0 < read_left() <= read_memory()


@pytest.mark.parametrize(
    ("text", "budget"),
    [("70%", 700), ("100%", 1000), ("0.5%", 5), ("6GB", 6 * 1024**3), ("512 mb", 512 * 1024**2), ("2000", 2000)],
)
def test_a_budget_is_a_share_or_a_size(text: str, budget: int) -> None:
    assert read_budget(text, 1000) == budget


@pytest.mark.parametrize("text", ["", "much", "0%", "101%", "-5GB", "5 XB"])
def test_a_budget_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="memory"):
        read_budget(text, 1000)
