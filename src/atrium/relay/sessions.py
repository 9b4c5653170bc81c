"""Conversations that stay with an endpoint, so that its prompt cache serves them. Source: `olla.md`, section 8."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass


@dataclass(slots=True)
class Session:
    endpoint: str
    used: float


class Sessions:
    """Keys are hashed, and bound to a model. Bounded in number and in time."""

    def __init__(self, most: int, idle: float) -> None:
        self._most = most
        self._idle = idle
        self._book: OrderedDict[bytes, Session] = OrderedDict()
        self.insertions = 0
        self.hits = 0
        self.misses = 0
        self.evictions = 0

    def find(self, key: bytes) -> str:
        """The endpoint that answered before; empty for a conversation that is new."""
        now = time.monotonic()
        self._forget_old(now)
        session = self._book.get(key)
        if session is None:
            self.misses += 1
            return ""
        session.used = now
        self._book.move_to_end(key)
        self.hits += 1
        return session.endpoint

    def pin(self, key: bytes, endpoint: str) -> None:
        known = self._book.get(key)
        if known is None:
            self.insertions += 1
        self._book[key] = Session(endpoint, time.monotonic())
        self._book.move_to_end(key)
        if len(self._book) > self._most:
            self._book.popitem(last=False)
            self.evictions += 1

    def told(self) -> dict[str, object]:
        self._forget_old(time.monotonic())
        return {
            "enabled": True,
            "active_sessions": len(self._book),
            "insertions": self.insertions,
            "hits": self.hits,
            "misses": self.misses,
            "evictions": self.evictions,
            "max_sessions": self._most,
            "idle_ttl_seconds": round(self._idle),
        }

    def _forget_old(self, now: float) -> None:
        while self._book and next(iter(self._book.values())).used < now - self._idle:
            self._book.popitem(last=False)
            self.evictions += 1


def session_key(model: str, source: str, value: bytes) -> bytes:
    return hashlib.sha256(b"%b\0%b\0%b" % (model.encode(), source.encode(), value)).digest()
