"""Whose key is this? Answered from memory for a key that was seen, and in constant time for one that was not."""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from atrium.core.errors import InvalidKey
from atrium.core.people import Caller
from atrium.core.ports import KeyBook

FORM = re.compile(r"(lollms_[0-9a-f]{16})_([0-9a-f]{48})")
MOST_KNOWN = 10_000
NOBODY = hashlib.sha256(b"nobody").digest()


def mac_of(pepper: bytes, prefix: str, secret: str) -> bytes:
    """HMAC-SHA256 of the secret, bound to its prefix."""
    return hmac.new(pepper, f"{prefix}_{secret}".encode("ascii"), hashlib.sha256).digest()


@dataclass(frozen=True, slots=True)
class Known:
    caller: Caller
    user_id: int
    key_id: int
    until: float


class CheckKey:
    """Unknown keys are never remembered, so one made a moment ago is good at once.

    `fresh` is how many seconds a positive answer may be used before it is looked up again, which bounds how late
    another gateway's revocation counts here; revocations in this process count at once.
    """

    def __init__(self, keys: KeyBook, pepper: bytes, *, fresh: float = 5.0) -> None:
        self._keys = keys
        self._pepper = pepper
        self._fresh = fresh
        self._known: OrderedDict[bytes, Known] = OrderedDict()
        self._used: dict[int, datetime] = {}
        self._generation = 0

    async def __call__(self, presented: str) -> Caller:
        """Raises InvalidKey: the same for malformed, unknown, revoked, and of a user who may no longer come in."""
        digest = hashlib.sha256(presented.encode("utf-8", "surrogatepass")).digest()
        known = self._known.get(digest)
        now = time.monotonic()
        if known is None or known.until < now:
            known = await self._look_up(presented, digest, now)
        self._used[known.key_id] = datetime.now(UTC)
        return known.caller

    def known(self, presented: str) -> Caller | None:
        """The caller, where that can be said from memory; None: it takes a look into the database."""
        known = self._known.get(hashlib.sha256(presented.encode("utf-8", "surrogatepass")).digest())
        if known is None or known.until < time.monotonic():
            return None
        self._used[known.key_id] = datetime.now(UTC)
        return known.caller

    def forget_key(self, key_id: int) -> None:
        self._forget(lambda known: known.key_id == key_id)

    def forget_user(self, user_id: int) -> None:
        self._forget(lambda known: known.user_id == user_id)

    async def flush(self) -> None:
        """Write down when keys were last used. Called by the application, about once a minute and at its end."""
        used, self._used = self._used, {}
        await self._keys.used(used)

    async def _look_up(self, presented: str, digest: bytes, now: float) -> Known:
        generation = self._generation
        found = FORM.fullmatch(presented)
        prefix, secret = (found[1], found[2]) if found else ("lollms_", "")
        pair = await self._keys.find(prefix)
        stored = pair[0].mac if pair else NOBODY
        right = hmac.compare_digest(stored, mac_of(self._pepper, prefix, secret))
        if pair is None or not right or not pair[1].is_active:
            self._known.pop(digest, None)
            raise InvalidKey("The API key is not valid", hint="Make one with: atrium keys create --user NAME --alias A")
        key, user = pair
        caller = Caller(user.id, user.name, user.is_admin, key.id)
        known = Known(caller, user.id, key.id, now + self._fresh)
        # A revocation may have come while the database was asked; what it said before that must not be remembered.
        if generation == self._generation:
            self._known[digest] = known
            self._known.move_to_end(digest)
            if len(self._known) > MOST_KNOWN:
                self._known.popitem(last=False)
        return known

    def _forget(self, which: Callable[[Known], bool]) -> None:
        self._generation += 1
        for digest in [digest for digest, known in self._known.items() if which(known)]:
            del self._known[digest]
