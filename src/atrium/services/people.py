"""Users and their passwords."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from atrium.core.errors import Forbidden, NotFound, Unprocessable
from atrium.core.people import Caller, User, UserChange
from atrium.core.ports import SessionBook, UserBook
from atrium.services.check_key import CheckKey
from atrium.services.passwords import Passwords

ADMIN = "admin"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


@dataclass(frozen=True, slots=True)
class People:
    users: UserBook
    sessions: SessionBook
    check_key: CheckKey
    passwords: Passwords

    async def all(self) -> tuple[User, ...]:
        return await self.users.all()

    async def me(self, caller: Caller) -> User:
        """Raises NotFound for a caller who is no user, as over the control socket."""
        user = await self.users.by_id(caller.user_id or 0)
        if user is None:
            raise NotFound("There is no user behind this call")
        return user

    async def create(self, name: str, password: str | None, *, is_admin: bool) -> User:
        """Raises Unprocessable, Conflict."""
        if not NAME.fullmatch(name):
            raise Unprocessable("A name has 1 to 64 letters, digits or . _ @ - and begins with one", param="username")
        hashed = await self.passwords.hashed(password) if password is not None else None
        return await self.users.add(name, password_hash=hashed, is_admin=is_admin, now=datetime.now(UTC))

    async def change(
        self,
        user_id: int,
        *,
        password: str | None = None,
        is_active: bool | None = None,
        is_admin: bool | None = None,
    ) -> User:
        """What is None stays; another password, and an end of being active, end all sessions.

        Raises NotFound, Unprocessable, Conflict for the last active administrator.
        """
        hashed = await self.passwords.hashed(password) if password is not None else None
        changed = await self.users.change(user_id, UserChange(hashed, is_active, is_admin))
        if password is not None or not changed.is_active:
            await self.sessions.end_all(user_id)
        self.check_key.forget_user(user_id)
        return changed

    async def change_password(self, caller: Caller, current: str, new: str) -> None:
        """The caller's own; their other sessions end.

        Raises Forbidden for a wrong password, Conflict for one that is right no more, Unprocessable.
        """
        user = await self.me(caller)
        if not await self.passwords.is_right(user.password_hash, current):
            raise Forbidden("The current password is another one", hint="An administrator can set a new one")
        hashed = await self.passwords.hashed(new, "new_password")
        await self.users.change(user.id, UserChange(hashed, instead_of=user.password_hash))
        await self.sessions.end_all(user.id, but=caller.session_id)
        self.check_key.forget_user(user.id)

    async def delete(self, user_id: int) -> User:
        """With all keys and sessions, at once. Raises NotFound, Conflict."""
        user = await self.users.by_id(user_id)
        if user is None:
            raise NotFound(f"There is no user with the id {user_id}")
        await self.users.delete(user_id)
        self.check_key.forget_user(user_id)
        return user

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
