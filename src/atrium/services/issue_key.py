"""API keys: made, shown once, listed, revoked."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

from atrium.core.errors import InvalidValue, NotFound
from atrium.core.people import Key, User
from atrium.core.ports import KeyBook, UserBook
from atrium.services.check_key import CheckKey, mac_of

PREFIX_BYTES = 8
SECRET_BYTES = 24
LONGEST_ALIAS = 100


@dataclass(frozen=True, slots=True)
class IssueKey:
    users: UserBook
    keys: KeyBook
    check_key: CheckKey
    pepper: bytes

    async def issue(self, username: str, alias: str) -> tuple[Key, User, str]:
        """The key, its owner and the full key, which nobody can read again.

        Raises NotFound for the user, InvalidValue and Conflict for the alias.
        """
        alias = alias.strip()
        if not 1 <= len(alias) <= LONGEST_ALIAS or not alias.isprintable():
            raise InvalidValue(f"An alias has 1 to {LONGEST_ALIAS} printable characters", param="alias")
        user = await self._user(username)
        prefix = f"lollms_{secrets.token_hex(PREFIX_BYTES)}"
        secret = secrets.token_hex(SECRET_BYTES)
        mac = mac_of(self.pepper, prefix, secret)
        key = await self.keys.add(user_id=user.id, alias=alias, prefix=prefix, mac=mac, now=datetime.now(UTC))
        return key, user, f"{prefix}_{secret}"

    async def all(self, username: str | None = None) -> tuple[tuple[Key, User], ...]:
        """Raises NotFound for the user."""
        return await self.keys.all((await self._user(username)).id if username is not None else None)

    async def revoke(self, key_id: int) -> None:
        """Counts at the next request. Raises NotFound."""
        key = await self.keys.revoke(key_id)
        self.check_key.forget_key(key.id)

    async def _user(self, username: str) -> User:
        user = await self.users.find(username)
        if user is None:
            raise NotFound(f"There is no user '{username[:64]}'", param="username")
        return user
