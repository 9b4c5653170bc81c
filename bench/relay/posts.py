"""Whole chats: wrk posts over keep-alive connections, each subject in turn, round by round."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from bench.relay.cores import cpu_seconds, pinned
from bench.relay.rows import Budget, Row, by_round
from bench.relay.subject import ATRIUM, CHAT, DIRECT, LITELLM, NGINX, Subject, chat_body, wait_until_idle

SCRIPT = Path(__file__).with_name("post.lua")
CONNECTIONS = (1, 16, 64, 256)
WITH_BUDGET = (64, 256)
SLOW_SECONDS = 5
"""LiteLLM needs seconds for the first answers to 256 connections."""


class Summary(TypedDict):
    """What post.lua prints."""

    requests: int
    seconds: float
    refused: int
    broken: int


@dataclass(frozen=True, slots=True)
class Posted:
    requests: int
    seconds: float
    cpu: float

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds

    @property
    def cpu_ms(self) -> float:
        return self.cpu * 1000 / self.requests


def post_load(subject: Subject, *, connections: int, seconds: int, core: int) -> Posted:
    """Raises RuntimeError when one answer was not a 200."""
    command = ("wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(SCRIPT))
    words = (subject.posts.url, "--", subject.posts.key, chat_body(CHAT).decode())
    before = cpu_seconds(subject.pid)
    with pinned(core):
        done = subprocess.run((*command, *words), capture_output=True, text=True, check=False)
    cpu = cpu_seconds(subject.pid) - before
    try:
        summary: Summary = json.loads(done.stdout.rstrip().rpartition("\n")[2])
    except ValueError:
        raise RuntimeError(f"wrk: {done.stdout[-300:]} {done.stderr[-300:]}") from None
    if summary["refused"] or summary["broken"] or not summary["requests"]:
        raise RuntimeError(f"{subject.name} at {connections} connections: {summary}")
    wait_until_idle(subject)
    return Posted(summary["requests"], summary["seconds"], cpu)


def rows_at(connections: int, posted: Mapping[str, Sequence[Posted]]) -> list[Row]:
    rates = {name: [p.per_second for p in answers] for name, answers in posted.items()}
    costs = {name: [p.cpu_ms for p in answers] for name, answers in posted.items() if name != DIRECT}
    what = f"chat, {connections} connection{'s' if connections > 1 else ''}"
    bound = connections in WITH_BUDGET
    rows = [
        Row(f"{what}: requests", "/s", rates, Budget("≥", 0.40) if bound else None, by_round(rates, NGINX)),
        Row(f"{what}: CPU per request", "ms", costs, Budget("≤", 2.5), by_round(costs, NGINX)),
    ]
    if bound and LITELLM in rates:
        both = {name: rates[name] for name in (LITELLM, ATRIUM) if name in rates}
        rows.append(Row(f"{what}: against LiteLLM", "/s", both, Budget("≥", 100), by_round(both, LITELLM)))
    return rows


def post_rows(
    subjects: Sequence[Subject], at: Sequence[int], *, rounds: int, seconds: int, core: int
) -> Generator[Row]:
    """`at`: so many connections."""
    for subject in subjects:
        post_load(subject, connections=16, seconds=1, core=core)
    for connections in at:
        posted: dict[str, list[Posted]] = {s.name: [] for s in subjects}
        for number in range(rounds):
            for subject in subjects if number % 2 else reversed(subjects):
                own = max(seconds, SLOW_SECONDS) if subject.name == LITELLM else seconds
                posted[subject.name].append(post_load(subject, connections=connections, seconds=own, core=core))
        yield from rows_at(connections, posted)
