"""`python -m bench.checks`: what is done for every request, and what translating a stream costs beside relaying it.

The fake endpoint streams as fast as it can, which may be slower than the gateway: so the gateway's own time on the
processor is told beside the chunks a second. Its ratio is the one that a faster endpoint would show.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, aclosing, contextmanager
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from atrium.app import Environment, opened
from atrium.core.quotas import Measure, Period, Subject, Worst
from atrium.services.check_key import digest_of
from atrium.services.issue_key import Wish
from atrium.settings.load import load
from bench.served import Served, served
from bench.stores.files import silent
from bench.wire import lines, posted

TIMES, ROUNDS = 20_000, 5
OTHERS = 1000
"""Quotas of other users."""
STREAMS, CHUNKS = 8, 1500
PLENTY = 10**12
CONFIG = """
endpoints:
  - {{name: relayed, url: "http://127.0.0.1:{openai}", type: openai}}
  - {{name: translated, url: "http://127.0.0.1:{ollama}", type: ollama}}
limits: {{global_per_minute: 0, per_ip_per_minute: 0}}
telemetry: {{level: warning}}
"""
MODELS = {"openai": "relay", "ollama": "translate"}
"""The model of a fake endpoint of each kind."""
Rows = list[tuple[str, str, str]]


def microseconds(act: Callable[[], object]) -> float:
    """Of the processor's time, the median of some rounds."""
    figures: list[float] = []
    for _ in range(ROUNDS):
        start = time.process_time()
        for _ in range(TIMES):
            act()
        figures.append((time.process_time() - start) / TIMES * 1e6)
    return statistics.median(figures)


async def check_rows(folder: Path) -> Rows:
    """One user with a key and quotas of every sort, among many quotas of others."""
    async with opened(load(None, folder, {}), Environment(), tell=silent) as atrium:
        services, book = atrium.services, atrium.storage.quotas
        key, user, secret = await services.issue_key.issue("admin", Wish("bench"))
        caller = await services.check_key(secret)
        known = microseconds(lambda: services.check_key.known(digest_of(secret)))
        own = (Subject(user_id=user.id), Subject(key_id=key.id), Subject(model="talk*"), Subject(each_user=True))
        others = [Subject(model=f"other-{number}") for number in range(OTHERS)]
        for subject in own:
            await book.put(subject, Measure.REQUESTS, Period.DAY, PLENTY)
        for subject in (*own, *others):
            await book.put(subject, Measure.TOKENS, Period.DAY, PLENTY)
        await services.meter.reload()

        def ask() -> None:
            entry = services.meter.enter(caller)
            services.meter.use(caller, ("talker", "local/talker"), Worst(100, 200)).settle(150, counts=True)
            entry.settle(0, counts=True)

        return [
            ("a key that is known", f"{known:.1f} µs", "≤ 20 µs"),
            (f"quotas: 8 that bind, {OTHERS} that do not", f"{microseconds(ask):.1f} µs", "≤ 100 µs"),
        ]


@contextmanager
def fake_endpoint(kind: str) -> Generator[int]:
    """Its port; for Ollama without OpenAI's paths."""
    command = [sys.executable, "-m", "atrium.engines.workers.fake_endpoint", "--port", "0", "--kind", kind]
    command += ["--models", MODELS[kind], *(["--without-v1"] if kind == "ollama" else [])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


async def streamed(server: Served, model: str) -> tuple[float, float]:
    """Chunks a second over all streams, and milliseconds of the gateway's processor time for one."""

    async def one() -> int:
        said = f"[fake chunks={CHUNKS}] Go on."
        body = {"model": model, "stream": True, "messages": [{"role": "user", "content": said}]}
        async with posted(server.door, "/v1/chat/completions", body) as reader, aclosing(lines(reader)) as events:
            return sum([1 async for _ in events])

    gateway = psutil.Process(server.process.pid)
    before, start = sum(gateway.cpu_times()[:2]), time.perf_counter()
    chunks = sum(await asyncio.gather(*(one() for _ in range(STREAMS))))
    seconds = time.perf_counter() - start
    return chunks / seconds, (sum(gateway.cpu_times()[:2]) - before) / chunks * 1000


async def stream_rows(server: Served) -> Rows:
    relay, translate = MODELS["openai"], MODELS["ollama"]
    figures = {model: [await streamed(server, model)] for model in (relay, translate)}
    for _ in range(ROUNDS):
        for model in figures:
            figures[model].append(await streamed(server, model))
    speed, cost = (
        {model: statistics.median(row[n] for row in rows) for model, rows in figures.items()} for n in (0, 1)
    )
    return [
        ("a relayed stream", f"{speed[relay]:.0f} chunks/s, {cost[relay] * 1000:.0f} µs each", ""),
        ("a translated one", f"{speed[translate]:.0f} chunks/s, {cost[translate] * 1000:.0f} µs each", ""),
        ("ratio of chunks/s", f"{speed[translate] / speed[relay]:.2f}", "≥ 0.3"),
        (
            "ratio of the gateway's time, which many chunks at once make short",
            f"{cost[relay] / cost[translate]:.2f}",
            "",
        ),
    ]


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch)
        rows = asyncio.run(check_rows(folder / "checks"))
        ports = {kind: stack.enter_context(fake_endpoint(kind)) for kind in MODELS}
        data_dir = folder / "data"
        data_dir.mkdir()
        (data_dir / "atrium.yaml").write_text(CONFIG.format(**ports))
        rows += asyncio.run(stream_rows(stack.enter_context(served(data_dir))))
    table = Table("what", "figure", "budget", title="for every request")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    main()
