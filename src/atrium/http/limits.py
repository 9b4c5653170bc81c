"""How many requests may come: one bucket for the server, one per address, one of its own for the health page.

It changes only between awaits, so that it is exact however many come at once.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from atrium.core.errors import RateLimited
from atrium.decisions.client_address import Network, client_address
from atrium.decisions.spend import Bucket, Rate, full, give_back, spend, until_full, wait_for_one
from atrium.settings.tree import Limits, Settings

MOST_ADDRESSES = 100_000
BLOCKED_FOR = 300.0
HEALTH = "/internal/health"


@dataclass(slots=True)
class Violations:
    rate: int = 0
    size: int = 0


class Limiter:
    def __init__(self, settings: Settings, networks: Sequence[Network]) -> None:
        self._networks = networks
        self.apply(settings.limits)
        self._all = full(self._global, time.monotonic())
        self._addresses: OrderedDict[str, Bucket] = OrderedDict()
        self._probes: OrderedDict[str, Bucket] = OrderedDict()
        self._blocked: OrderedDict[str, float] = OrderedDict()
        self.violations = Violations()

    def apply(self, limits: Limits) -> None:
        """What was spent stays spent."""
        self._global = Rate(limits.global_per_minute, limits.burst)
        self._per_ip = Rate(limits.per_ip_per_minute, limits.burst)
        self._health = Rate(limits.health_per_minute, max(50, limits.burst))
        self.limited = self._global.limited or self._per_ip.limited
        self.most_body = limits.max_body
        self.patience = limits.body_timeout

    def address(self, peer: str, forwarded: bytes) -> str:
        return client_address(peer, forwarded, self._networks) if self._networks else peer

    def admit(self, path: str, address: str) -> bytes:
        """Header lines that tell what is left. Raises RateLimited, whose `limits` are such lines, too."""
        if path == HEALTH:
            if self._health.limited:
                now = time.monotonic()
                bucket = self._bucket(self._probes, self._health, address, now)
                if not spend(bucket, self._health, now):
                    raise self._refused(address, bucket, self._health, now)
                return told(bucket, self._health)
            return b""
        return self.take(address) if self.limited else b""

    def take(self, address: str) -> bytes:
        """As `admit`, of a path that is no health page, where there are limits."""
        now = time.monotonic()
        if self._global.limited and not spend(self._all, self._global, now):
            raise self._refused(address, self._all, self._global, now)
        if not self._per_ip.limited:
            return told(self._all, self._global)
        bucket = self._bucket(self._addresses, self._per_ip, address, now)
        if not spend(bucket, self._per_ip, now):
            if self._global.limited:
                give_back(self._all, self._global)
            raise self._refused(address, bucket, self._per_ip, now)
        if self._global.limited and self._all.tokens < bucket.tokens:
            return told(self._all, self._global, shown=self._per_ip)
        return told(bucket, self._per_ip)

    def blocked(self) -> int:
        """Addresses that were refused in the last five minutes."""
        oldest = time.monotonic() - BLOCKED_FOR
        while self._blocked and next(iter(self._blocked.values())) < oldest:
            self._blocked.popitem(last=False)
        return len(self._blocked)

    def _bucket(self, book: OrderedDict[str, Bucket], rate: Rate, address: str, now: float) -> Bucket:
        bucket = book.get(address)
        if bucket is None:
            bucket = book[address] = full(rate, now)
            if len(book) > MOST_ADDRESSES:
                book.popitem(last=False)
        return bucket

    def _refused(self, address: str, bucket: Bucket, rate: Rate, now: float) -> RateLimited:
        self.violations.rate += 1
        self._blocked[address] = now
        self._blocked.move_to_end(address)
        if len(self._blocked) > MOST_ADDRESSES:
            self._blocked.popitem(last=False)
        wait = wait_for_one(bucket, rate)
        return RateLimited(
            f"More than {rate.per_minute:g} requests a minute",
            hint=f"Try again in {wait} s",
            retry_after=wait,
            lines=told(bucket, rate),
        )


def told(bucket: Bucket, rate: Rate, *, shown: Rate | None = None) -> bytes:
    reset = math.ceil(time.time() + until_full(bucket, rate))
    return b"x-ratelimit-limit: %d\r\nx-ratelimit-remaining: %d\r\nx-ratelimit-reset: %d\r\n" % (
        int((shown or rate).per_minute),
        int(bucket.tokens),
        reset,
    )
