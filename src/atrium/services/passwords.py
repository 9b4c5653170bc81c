"""Passwords: hashed slowly on threads, a few at a time, and compared in the same time whether there is one or not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from atrium.core.errors import QueueFull, Unprocessable

T = TypeVar("T")
SHORTEST_PASSWORD = 8
LONGEST_PASSWORD = 1024
AT_ONCE = 2
"""Each takes a core and 64 MiB for a moment."""
MOST_WAITING = 64


class Passwords:
    def __init__(self) -> None:
        self._hasher = PasswordHasher()
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0
        self._nobody: str | None = None

    async def hashed(self, password: str, param: str = "password") -> str:
        """Raises Unprocessable for one that is too short or too long, QueueFull."""
        if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD or not is_text(password):
            raise Unprocessable(
                f"A password has at least {SHORTEST_PASSWORD} characters, and at most {LONGEST_PASSWORD}", param=param
            )
        return await self._on_thread(self._hasher.hash, password)

    async def is_right(self, stored: str | None, password: str) -> bool:
        """Takes as long for a user who is not there or has no password (`stored` is None). Raises QueueFull."""
        if len(password) > LONGEST_PASSWORD or not is_text(password):
            return False
        if self._nobody is None:
            self._nobody = await self._on_thread(self._hasher.hash, "nobody's password")
        right = await self._on_thread(self._compare, stored or self._nobody, password)
        return right and stored is not None

    def _compare(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (Argon2Error, InvalidHashError):
            return False

    async def _on_thread(self, work: Callable[..., T], *given: str) -> T:
        if self._waiting >= MOST_WAITING:
            raise QueueFull("Too many logins wait already", retry_after=1)
        self._waiting += 1
        try:
            async with self._turn:
                return await asyncio.to_thread(work, *given)
        finally:
            self._waiting -= 1


def is_text(password: str) -> bool:
    """Whether it can be encoded: JSON can carry halves of characters."""
    try:
        password.encode()
    except UnicodeEncodeError:
        return False
    return True
