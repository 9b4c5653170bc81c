"""Logging in with a name and a password; whoever guesses is slowed down, and learns no name by it."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from atrium.core.errors import Forbidden, NotFound, WrongPassword
from atrium.core.events import Tell
from atrium.core.people import Caller, Session, User
from atrium.core.ports import SessionBook, UserBook
from atrium.decisions.allow import SESSION_FORM
from atrium.services.check_key import session_mac
from atrium.services.patience import Patience
from atrium.services.people import People

TOKEN_BYTES = 32


@dataclass(frozen=True, slots=True)
class LogIn:
    users: UserBook
    sessions: SessionBook
    people: People
    pepper: bytes
    session_seconds: float
    signup: bool
    tell: Tell
    patience: Patience = field(default_factory=Patience)

    async def __call__(self, name: str, password: str, address: str) -> tuple[str, Session]:
        """A new session and its token. Raises WrongPassword (the same for an unknown name), RateLimited, QueueFull."""
        self.patience.before_login(name, address)
        user = await self.users.find(name)
        stored = user.password_hash if user and user.is_active else None
        if not await self.people.passwords.is_right(stored, password) or user is None:
            self.tell("login.failed", {"username": name[:64], "address": address})
            raise WrongPassword("The name or the password is wrong")
        self.patience.after_login(name, address)
        now = datetime.now(UTC)
        token = SESSION_FORM + secrets.token_hex(TOKEN_BYTES)
        until = now + timedelta(seconds=self.session_seconds)
        mac = session_mac(self.pepper, token)
        await self.sessions.forget_expired(now)
        try:
            session = await self.sessions.add(user_id=user.id, mac=mac, now=now, until=until)
        except NotFound:
            raise WrongPassword("The name or the password is wrong") from None
        # Comparing takes its time. Whoever changed the password since then has ended all sessions but this one.
        there = await self.users.by_id(user.id)
        if there is None or not there.is_active or there.password_hash != user.password_hash:
            await self.sessions.end(session.id)
            raise WrongPassword("The name or the password is wrong")
        return token, session

    async def log_out(self, caller: Caller) -> None:
        """The caller's session is dead from here on; a key is none."""
        if caller.session_id is not None and caller.user_id is not None:
            await self.sessions.end(caller.session_id)
            self.people.check_key.forget_user(caller.user_id)

    async def register(self, name: str, password: str, address: str) -> User:
        """A user of one's own making. Raises Forbidden where that is closed, Unprocessable, Conflict, RateLimited."""
        if not self.signup:
            raise Forbidden("Signing up is closed here", hint="Ask an administrator for an account")
        self.patience.before_signup(address)
        return await self.people.create(name, password, is_admin=False)

    async def change_password(self, caller: Caller, current: str, new: str, address: str) -> None:
        """Guessing the current one is slowed as a login is. Raises as `People.change_password` does, RateLimited."""
        self.patience.before_change(caller.name, address)
        await self.people.change_password(caller, current, new)
        self.patience.after_change(caller.name, address)
