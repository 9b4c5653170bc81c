"""Whose key or session is this? Answered from memory for one that was seen, in constant time for one that was not."""

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
from atrium.core.ports import KeyBook, SessionBook
from atrium.decisions.allow import SESSION_FORM

FORM = re.compile(r"(lollms_[0-9a-f]{16})_([0-9a-f]{48})")
MOST_KNOWN = 10_000
NOBODY = hashlib.sha256(b"nobody").digest()
HOW_TO_GET_ONE = "Make one with: atrium keys create --user NAME --alias A"


def mac_of(pepper: bytes, prefix: str, secret: str) -> bytes:
    """HMAC-SHA256 of the secret, bound to its prefix."""
    return hmac.new(pepper, f"{prefix}_{secret}".encode("ascii"), hashlib.sha256).digest()


def session_mac(pepper: bytes, token: str) -> bytes:
    return hmac.new(pepper, token.encode("utf-8", "surrogatepass"), hashlib.sha256).digest()


@dataclass(frozen=True, slots=True)
class Known:
    caller: Caller
    user_id: int
    until: float


class CheckKey:
    """Unknown keys are never remembered, so one made a moment ago is good at once.

    `fresh` is how many seconds a positive answer may be used before it is looked up again, which bounds how late
    another gateway's revocation counts here; revocations in this process count at once.
    """

    def __init__(self, keys: KeyBook, sessions: SessionBook, pepper: bytes, *, fresh: float = 5.0) -> None:
        self._keys = keys
        self._sessions = sessions
        self._pepper = pepper
        self._fresh = fresh
        self._known: OrderedDict[bytes, Known] = OrderedDict()
        self._used: dict[int, float] = {}
        """When each key was used last, in seconds of the epoch."""
        self._generation = 0

    async def __call__(self, presented: str) -> Caller:
        """Raises InvalidKey: the same for malformed, unknown, revoked, and of a user who may no longer come in."""
        caller = self.known(digest_of(presented))
        if caller is None:
            caller = await self._look_up(presented)
            self._note(caller)
        return caller

    def known(self, digest: bytes) -> Caller | None:
        """The caller who presented what has this digest, where that can be said from memory; None: it takes a look into
        the database."""
        known = self._known.get(digest)
        if known is None or known.until < time.monotonic():
            return None
        self._note(known.caller)
        return known.caller

    def forget_key(self, key_id: int) -> None:
        self._forget(lambda known: known.caller.key_id == key_id)

    def forget_user(self, user_id: int) -> None:
        self._forget(lambda known: known.user_id == user_id)

    async def flush(self) -> None:
        """Write down when keys were last used. Called by the application, every few seconds and at its end."""
        used, self._used = self._used, {}
        try:
            await self._keys.used({key: datetime.fromtimestamp(at, UTC) for key, at in used.items()})
        except BaseException:
            self._used = {**used, **self._used}
            raise

    def _note(self, caller: Caller) -> None:
        if caller.key_id is not None:
            self._used[caller.key_id] = time.time()

    async def _look_up(self, presented: str) -> Caller:
        generation, digest = self._generation, digest_of(presented)
        self._known.pop(digest, None)
        caller = await (self._session(presented) if presented.startswith(SESSION_FORM) else self._key(presented))
        left = self._fresh
        if caller.expires_at is not None:
            left = min(left, (caller.expires_at - datetime.now(UTC)).total_seconds())
        # A revocation may have come while the database was asked; what it said before that must not be remembered.
        if generation == self._generation and caller.user_id is not None:
            self._known[digest] = Known(caller, caller.user_id, time.monotonic() + left)
            if len(self._known) > MOST_KNOWN:
                self._known.popitem(last=False)
        return caller

    async def _key(self, presented: str) -> Caller:
        found = FORM.fullmatch(presented)
        prefix, secret = (found[1], found[2]) if found else (SESSION_FORM, "")
        pair = await self._keys.find(prefix)
        stored = pair[0].mac if pair else NOBODY
        right = hmac.compare_digest(stored, mac_of(self._pepper, prefix, secret))
        if pair is None or not right or not pair[1].is_active or is_over(pair[0].expires_at):
            raise InvalidKey("The API key is not valid", hint=HOW_TO_GET_ONE)
        key, user = pair
        return Caller(user.id, user.name, user.is_admin, key.id, None, key.scopes, key.expires_at)

    async def _session(self, presented: str) -> Caller:
        pair = await self._sessions.find(session_mac(self._pepper, presented))
        if pair is None or not pair[1].is_active or is_over(pair[0].expires_at):
            raise InvalidKey("The session has ended", hint="Log in again")
        session, user = pair
        return Caller(user.id, user.name, user.is_admin, None, session.id, expires_at=session.expires_at)

    def _forget(self, which: Callable[[Known], bool]) -> None:
        self._generation += 1
        for digest in [digest for digest, known in self._known.items() if which(known)]:
            del self._known[digest]


def digest_of(presented: str) -> bytes:
    return hashlib.sha256(presented.encode("utf-8", "surrogatepass")).digest()


def is_over(end: datetime | None) -> bool:
    return end is not None and end <= datetime.now(UTC)
