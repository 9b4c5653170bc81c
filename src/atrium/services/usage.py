"""What was used: noted by every request without a wait, written by one writer in batches, and told in sums."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

from atrium.core.events import Tell
from atrium.core.usage import HOUR, UsageRecord
from atrium.core.usage_ports import UsageSink

EVERY = 1.0
"""Seconds between two batches at most."""
BATCH = 5000
"""Records in one transaction."""
SWEEP = 3600.0
MINUTE = 60
FoldKey = tuple[float, str, int, int, str, str]


@dataclass(frozen=True, slots=True)
class UsageBounds:
    queue: int
    """Records that may wait to be written one by one; what is over is folded."""
    keep: float
    """Seconds that single records are kept."""


class UsageLog:
    """Never loses a record and never grows without bound: what cannot be written one by one is folded into sums by
    minute, and when even those are many, by hour."""

    def __init__(self, store: UsageSink, bounds: UsageBounds, tell: Tell) -> None:
        self._store = store
        self._bounds = bounds
        self._tell = tell
        self._waiting: deque[UsageRecord] = deque()
        self._folded: dict[FoldKey, UsageRecord] = {}
        self._writing = asyncio.Lock()
        self._swept = 0.0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            # Not in mid-write: what was written but not heard of would be written twice.
            async with self._writing:
                self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.flush()

    def note(self, record: UsageRecord) -> None:
        if len(self._waiting) < self._bounds.queue:
            self._waiting.append(record)
        else:
            self._fold(record)

    async def flush(self) -> None:
        """Write all that has been noted until now. Raises what the database raises; then nothing is lost."""
        async with self._writing:
            left = len(self._waiting) + len(self._folded)
            while left > 0 and (self._waiting or self._folded):
                left -= await self._write_batch()

    async def _write_batch(self) -> int:
        batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
        folded = [self._folded.pop(key) for key in list(self._folded)[: BATCH - len(batch)]]
        try:
            await self._store.write([*batch, *folded])
        except BaseException:
            for record in reversed(batch):
                if len(self._waiting) < self._bounds.queue:
                    self._waiting.appendleft(record)
                else:
                    self._fold(record)
            for record in folded:
                self._fold(record)
            raise
        return len(batch) + len(folded)

    async def _run(self) -> None:
        failing = False
        while True:
            await asyncio.sleep(EVERY)
            try:
                await self.flush()
                await self._forget_old()
                failing = False
            except Exception as broken:  # noqa: BLE001 - a task's root: what could not be written is tried again
                if not failing:
                    self._tell("usage.unwritten", {"waiting": len(self._waiting), "error": str(broken)[:500]})
                failing = True

    async def _forget_old(self) -> None:
        now = time.monotonic()
        if now - self._swept >= SWEEP:
            self._swept = now
            await self._store.forget(datetime.now(UTC) - timedelta(seconds=self._bounds.keep))

    def _fold(self, record: UsageRecord) -> None:
        whole = MINUTE if len(self._folded) < self._bounds.queue else HOUR
        at = record.at - record.at % whole
        key = (at, record.door, record.user_id, record.key_id, record.model, record.endpoint)
        known = self._folded.get(key)
        if known is None:
            record.at = at
            self._folded[key] = record
        else:
            add(known, record)


def add(sums: UsageRecord, other: UsageRecord) -> None:
    sums.requests += other.requests
    sums.failures += other.failures
    sums.prompt_tokens += other.prompt_tokens
    sums.completion_tokens += other.completion_tokens
    sums.seconds += other.seconds
    sums.exact = sums.exact and other.exact
    sums.hits += other.hits
