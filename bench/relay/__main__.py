"""`python -m bench.relay [--short | --glance] [--without NAME]`: the relay's table in one run."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console

from bench.relay.atrium import atrium
from bench.relay.cores import divide_cores
from bench.relay.litellm import litellm
from bench.relay.memory import memory_rows
from bench.relay.nginx import APT, is_missing, proxy, upstreams
from bench.relay.posts import CONNECTIONS, post_rows
from bench.relay.rows import Row, table_of
from bench.relay.streams import glance_rows, stream_rows
from bench.relay.subject import ATRIUM, LITELLM, NGINX, Subject, wait_until_ready

Starter = Callable[[Path, Subject, int], AbstractContextManager[Subject]]
STARTERS: dict[str, Starter] = {NGINX: proxy, LITELLM: litellm, ATRIUM: atrium}


@dataclass(frozen=True, slots=True)
class Effort:
    rounds: int
    seconds: int
    requests: int
    """Of the memory rows; 0 leaves them out."""
    connections: Sequence[int] = CONNECTIONS
    streams: Callable[..., Generator[Row]] = stream_rows
    without: tuple[str, ...] = ()


TABLE_WIDTH = 160
LONG = Effort(rounds=6, seconds=3, requests=60_000)
SHORT = Effort(rounds=3, seconds=1, requests=10_000)
GLANCE = Effort(rounds=2, seconds=1, requests=0, connections=(1, 64), streams=glance_rows, without=(LITELLM.lower(),))


def start_subjects(stack: ExitStack, folder: Path, direct: Subject, core: int, without: Sequence[str]) -> list[Subject]:
    """Every proxy that can be started; why another cannot is printed."""
    subjects = [direct]
    for name, start in STARTERS.items():
        if name.lower() in without:
            continue
        try:
            subject = stack.enter_context(start(folder, direct, core))
            wait_until_ready(subject)
        except RuntimeError as error:
            print(f"{name} is left out: {error}", flush=True)
        else:
            subjects.append(subject)
    return subjects


def relay_rows(effort: Effort, *, without: Sequence[str] = ()) -> Generator[Row]:
    """Row by row, as they are measured. Raises RuntimeError when nginx or wrk is missing, or an answer is not right."""
    if is_missing():
        raise RuntimeError(f"nginx and wrk are needed: {APT}")
    cores = divide_cores()
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder = Path(temporary)
        direct = stack.enter_context(upstreams(folder, cores.upstream))
        with ExitStack() as proxies:
            subjects = start_subjects(proxies, folder, direct, cores.proxy, (*effort.without, *without))
            load = {"rounds": effort.rounds, "seconds": effort.seconds, "core": cores.load}
            yield from post_rows(subjects, effort.connections, **load)
            yield from effort.streams(subjects, **load)
        if effort.requests and any(s.name == ATRIUM for s in subjects):
            yield from memory_rows(folder, direct, cores, requests=effort.requests)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.relay", description=f"Needs nginx and wrk: {APT}")
    how_long = parser.add_mutually_exclusive_group()
    how_long.add_argument("--short", action="store_true", help="fewer and shorter rounds: a look for regressions")
    how_long.add_argument("--glance", action="store_true", help="a few rows in less than a minute, without LiteLLM")
    names = [name.lower() for name in STARTERS if name != NGINX]
    parser.add_argument("--without", action="append", default=[], choices=names, help="leave a proxy out")
    options = parser.parse_args()
    effort = GLANCE if options.glance else SHORT if options.short else LONG
    console = Console(width=max(Console().width, TABLE_WIDTH))
    load = psutil.getloadavg()[0]
    rows: list[Row] = []
    try:
        with console.status("measuring"):
            rows.extend(relay_rows(effort, without=options.without))
    except RuntimeError as error:
        sys.exit(f"bench.relay: {error}")
    except KeyboardInterrupt:
        sys.exit("bench.relay: stopped before it was done")
    finally:
        if rows:
            console.print(
                f"{os.cpu_count()} cores, {platform.machine()}, {effort.rounds} rounds, load before {load:.1f}"
            )
            console.print(table_of(rows))


if __name__ == "__main__":
    main()
