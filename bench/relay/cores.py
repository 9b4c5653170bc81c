"""Which core runs what, and what a process has used of it."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

KIB = 1024


@dataclass(frozen=True, slots=True)
class Cores:
    """The proxies share `proxy`, for only one of them is ever under load."""

    proxy: int
    upstream: int
    load: int


def divide_cores() -> Cores:
    """The last cores of those we may use; with only two, upstream and load share one. Raises RuntimeError for one."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise RuntimeError("the relay bench needs two cores: one for the proxy, one for upstream and load")
    return Cores(proxy=allowed[-1], upstream=allowed[-2], load=allowed[-3] if len(allowed) > 2 else allowed[-2])


@contextmanager
def pinned(core: int) -> Generator[None]:
    """This process and every child begun meanwhile run on `core`."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its children so far."""
    process = psutil.Process(pid)
    times = [p.cpu_times() for p in (process, *process.children(recursive=True))]
    return sum(t.user + t.system for t in times)


def resident_kib(pid: int) -> float:
    return psutil.Process(pid).memory_info().rss / KIB
