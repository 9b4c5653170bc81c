"""People, keys, sessions, and who is calling."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class User:
    id: int
    name: str
    is_admin: bool
    is_active: bool
    created_at: datetime
    password_hash: str | None = None
    """argon2id; None: no password login until one is set."""


@dataclass(frozen=True, slots=True)
class UserChange:
    """What is to be another with a user; what is None stays as it is by then."""

    password_hash: str | None = None
    is_active: bool | None = None
    is_admin: bool | None = None
    instead_of: str | None = None
    """The password's hash that the change was granted for, and which must be there still."""


@dataclass(frozen=True, slots=True)
class Scopes:
    """What a key is good for, as globs; an empty list sets no bound."""

    models: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()

    @property
    def narrow(self) -> bool:
        return bool(self.models or self.paths)


EVERYTHING = Scopes()


@dataclass(frozen=True, slots=True)
class Key:
    """An API key without its secret."""

    id: int
    user_id: int
    alias: str
    prefix: str
    """`lollms_<16 hex>`: public, unique."""
    created_at: datetime
    last_used_at: datetime | None = None
    mac: bytes = b""
    """HMAC-SHA256 of the secret under the server's pepper."""
    expires_at: datetime | None = None
    scopes: Scopes = EVERYTHING


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key about to be stored."""

    user_id: int
    alias: str
    prefix: str
    mac: bytes
    created_at: datetime
    expires_at: datetime | None = None
    scopes: Scopes = EVERYTHING


@dataclass(frozen=True, slots=True)
class Session:
    """A login that has not ended, without its token."""

    id: int
    user_id: int
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Act:
    """What somebody with rights has done, for the audit log."""

    at: datetime
    actor: str
    actor_id: int | None
    address: str
    """Empty over the control socket."""
    action: str
    """Method and path, such as `DELETE /api/admin/users/7`."""
    detail: str = ""
    id: int = 0


@dataclass(frozen=True, slots=True)
class Acts:
    """Which acts are asked for; what is left out leaves all in."""

    before: int | None = None
    """Only acts older than the one with this id."""
    actor: str = ""
    action: str = ""
    """Stands somewhere in the action or its detail, in whatever case."""
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a request belongs to."""

    user_id: int | None
    """None: the anonymous user of an open door, or the control socket."""
    name: str
    is_admin: bool = False
    key_id: int | None = None
    session_id: int | None = None
    scopes: Scopes = EVERYTHING
    expires_at: datetime | None = None
    """When the key or session ends."""


ANONYMOUS = Caller(user_id=None, name="anonymous")
CONTROL = Caller(user_id=None, name="control socket", is_admin=True)
