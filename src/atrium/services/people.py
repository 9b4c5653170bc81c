"""Users and their passwords."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from argon2 import PasswordHasher

from atrium.core.errors import InvalidValue, NotFound
from atrium.core.people import User
from atrium.core.ports import UserBook
from atrium.services.check_key import CheckKey

ADMIN = "admin"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
SHORTEST_PASSWORD = 8
LONGEST_PASSWORD = 1024


@dataclass(frozen=True, slots=True)
class People:
    users: UserBook
    check_key: CheckKey
    hasher: PasswordHasher = field(default_factory=PasswordHasher)

    async def all(self) -> tuple[User, ...]:
        return await self.users.all()

    async def create(self, name: str, password: str | None, *, is_admin: bool) -> User:
        """Raises InvalidValue, Conflict."""
        if not NAME.fullmatch(name):
            raise InvalidValue("A name has 1 to 64 letters, digits or . _ @ - and begins with one", param="username")
        hashed = await self._hash(password) if password is not None else None
        return await self.users.add(name, password_hash=hashed, is_admin=is_admin, now=datetime.now(UTC))

    async def change(
        self,
        user_id: int,
        *,
        password: str | None = None,
        is_active: bool | None = None,
        is_admin: bool | None = None,
    ) -> User:
        """What is None stays. Raises NotFound, InvalidValue, Conflict for the last active administrator."""
        user = next((user for user in await self.users.all() if user.id == user_id), None)
        if user is None:
            raise NotFound(f"There is no user with the id {user_id}")
        changed = replace(
            user,
            password_hash=await self._hash(password) if password is not None else user.password_hash,
            is_active=user.is_active if is_active is None else is_active,
            is_admin=user.is_admin if is_admin is None else is_admin,
        )
        await self.users.replace(changed)
        self.check_key.forget_user(user_id)
        return changed

    async def delete(self, user_id: int) -> None:
        """With all keys, at once. Raises NotFound, Conflict."""
        await self.users.delete(user_id)
        self.check_key.forget_user(user_id)

    async def ensure_admin(self, password: str | None) -> bool:
        """User `admin` exists from the first start; True when this was it. A password is set only where none is."""
        admin = await self.users.find(ADMIN)
        if admin is None:
            if await self.users.all():
                return False
            await self.create(ADMIN, password, is_admin=True)
            return True
        if password is not None and admin.password_hash is None:
            await self.change(admin.id, password=password)
        return False

    async def _hash(self, password: str) -> str:
        if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
            raise InvalidValue(f"A password has at least {SHORTEST_PASSWORD} characters", param="password")
        return await asyncio.to_thread(self.hasher.hash, password)
