"""Token buckets as arithmetic. Source: contract `olla.md`, section 11.1."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rate:
    per_minute: float
    """0 or less: no limit."""
    burst: float
    """Size of the bucket."""

    @property
    def limited(self) -> bool:
        return self.per_minute > 0


@dataclass(slots=True)
class Bucket:
    """Its owner alone changes it, through the functions below. Clock in seconds."""

    tokens: float
    at: float


def full(rate: Rate, now: float) -> Bucket:
    return Bucket(rate.burst, now)


def refill(bucket: Bucket, rate: Rate, now: float) -> None:
    if now > bucket.at:
        bucket.tokens = min(rate.burst, bucket.tokens + (now - bucket.at) * rate.per_minute / 60)
        bucket.at = now


def spend(bucket: Bucket, rate: Rate, now: float) -> bool:
    """Take one token, if one is there."""
    refill(bucket, rate, now)
    if bucket.tokens < 1:
        return False
    bucket.tokens -= 1
    return True


def give_back(bucket: Bucket, rate: Rate) -> None:
    bucket.tokens = min(rate.burst, bucket.tokens + 1)


def wait_for_one(bucket: Bucket, rate: Rate) -> int:
    """Whole seconds until a token exists, at least 1."""
    return max(1, math.ceil((1 - bucket.tokens) * 60 / rate.per_minute))


def until_full(bucket: Bucket, rate: Rate) -> float:
    """Seconds until the bucket is full again."""
    return max(0.0, (rate.burst - bucket.tokens) * 60 / rate.per_minute)
