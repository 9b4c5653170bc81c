"""Ports of quotas and usage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from atrium.core.quotas import Measure, Period, Quota, Subject
from atrium.core.usage import DoorHits, Span, Sums, UsageRecord, UsageRow


class QuotaBook(Protocol):
    async def all(self) -> tuple[Quota, ...]: ...

    async def put(self, subject: Subject, measure: Measure, period: Period, amount: int) -> Quota:
        """In the place of one with the same subject, measure and period. Raises NotFound for its user or key."""
        ...

    async def remove(self, quota_id: int) -> None:
        """Raises NotFound."""
        ...

    async def spent(self, quota: Quota, since: float) -> Mapping[int, int]:
        """What was used of it since a moment of the epoch: by user where it is each user's, else under 0."""
        ...


class UsageSink(Protocol):
    async def write(self, records: Sequence[UsageRecord]) -> None:
        """All or none of them."""
        ...

    async def forget(self, before: datetime) -> None:
        """Single records; sums stay."""
        ...


class UsageStore(Protocol):
    async def rows(self, span: Span, limit: int, after: UsageRow | None = None) -> tuple[UsageRow, ...]:
        """Sums by hour, oldest first; `after`: only what comes after this row in that order."""
        ...

    async def by(self, field: str, span: Span, limit: int) -> tuple[tuple[Any, Sums], ...]:
        """Sums for each `hour`, `user_id`, `key_id`, `model` or `door`, the busiest first, hours in order."""
        ...

    async def doors(self) -> tuple[DoorHits, ...]: ...

    async def reset_doors(self) -> None: ...
