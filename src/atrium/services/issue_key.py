"""API keys: made, shown once, listed, revoked."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from atrium.core.errors import NotFound, Unprocessable
from atrium.core.people import EVERYTHING, Caller, Key, NewKey, Scopes, User
from atrium.core.ports import KeyBook, UserBook
from atrium.decisions.allow import check_narrower
from atrium.services.check_key import CheckKey, mac_of

PREFIX_BYTES = 8
SECRET_BYTES = 24
LONGEST_ALIAS = 100
MOST_GLOBS = 64
LONGEST_GLOB = 200
BEGINS_A_PATH = "/*?["
"""A slash, or what may stand for one. A key for any other pattern would be good for nothing."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A key as somebody wants it."""

    alias: str
    expires_at: datetime | None = None
    """Aware of its zone."""
    scopes: Scopes = EVERYTHING


@dataclass(frozen=True, slots=True)
class IssueKey:
    users: UserBook
    keys: KeyBook
    check_key: CheckKey
    pepper: bytes

    async def issue(self, username: str, wish: Wish) -> tuple[Key, User, str]:
        """The key, its owner and the full key, which nobody can read again.

        Raises NotFound for the user, Unprocessable and Conflict for what is wished.
        """
        return await self._issue(await self._named(username), wish)

    async def issue_own(self, caller: Caller, wish: Wish) -> tuple[Key, User, str]:
        """For the caller's own user. A key makes none that outlives it, and none that is good for more than itself.

        Raises Forbidden, and as `issue` does.
        """
        check_narrower(caller.scopes, wish.scopes)
        if caller.expires_at is not None and caller.key_id is not None:
            end = min(wish.expires_at or caller.expires_at, caller.expires_at)
            wish = Wish(wish.alias, end, wish.scopes)
        user = await self.users.by_id(caller.user_id or 0)
        if user is None:
            raise NotFound("There is no user behind this call")
        return await self._issue(user, wish)

    async def all(self, username: str | None = None) -> tuple[tuple[Key, User], ...]:
        """Raises NotFound for the user."""
        await self.check_key.flush()
        return await self.keys.all((await self._named(username)).id if username is not None else None)

    async def own(self, caller: Caller) -> tuple[Key, ...]:
        await self.check_key.flush()
        return tuple(key for key, _ in await self.keys.all(caller.user_id or 0))

    async def revoke(self, key_id: int, *, owner: int | None = None) -> None:
        """Counts at the next request. Raises NotFound, also for somebody else's where the owner is named."""
        key = await self.keys.revoke(key_id, owner=owner)
        self.check_key.forget_key(key.id)

    async def revoke_many(self, key_ids: Sequence[int], caller: Caller) -> int:
        """How many there were of the caller's; others are passed over."""
        revoked = 0
        for key_id in dict.fromkeys(key_ids):
            try:
                await self.revoke(key_id, owner=caller.user_id or 0)
            except NotFound:
                continue
            revoked += 1
        return revoked

    async def _issue(self, user: User, wish: Wish) -> tuple[Key, User, str]:
        alias = wish.alias.strip()
        if not 1 <= len(alias) <= LONGEST_ALIAS or not alias.isprintable():
            raise Unprocessable(f"An alias has 1 to {LONGEST_ALIAS} printable characters", param="alias")
        now = datetime.now(UTC)
        end = wish.expires_at
        if end is not None and end <= now:
            raise Unprocessable("The key would have expired already", param="expires_at")
        check_globs(wish.scopes.models, "models")
        check_globs(wish.scopes.paths, "paths")
        for glob in wish.scopes.paths:
            if glob[0] not in BEGINS_A_PATH:
                raise Unprocessable(f"No path matches '{glob}': every path begins with '/'", param="paths")
        prefix = f"lollms_{secrets.token_hex(PREFIX_BYTES)}"
        secret = secrets.token_hex(SECRET_BYTES)
        mac = mac_of(self.pepper, prefix, secret)
        key = await self.keys.add(NewKey(user.id, alias, prefix, mac, now, end, wish.scopes))
        return key, user, f"{prefix}_{secret}"

    async def _named(self, username: str) -> User:
        user = await self.users.find(username)
        if user is None:
            raise NotFound(f"There is no user '{username[:64]}'", param="username")
        return user


def check_globs(globs: Sequence[str], param: str) -> None:
    """Raises Unprocessable."""
    fine = all(1 <= len(glob) <= LONGEST_GLOB and glob.isprintable() for glob in globs)
    if len(globs) > MOST_GLOBS or not fine:
        raise Unprocessable(
            f"'{param}' has at most {MOST_GLOBS} patterns of 1 to {LONGEST_GLOB} printable characters", param=param
        )
