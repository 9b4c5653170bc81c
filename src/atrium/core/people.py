"""People, keys, and who is calling."""

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


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a request belongs to."""

    user_id: int | None
    """None: the anonymous user of an open door, or the control socket."""
    name: str
    is_admin: bool = False
    key_id: int | None = None


ANONYMOUS = Caller(user_id=None, name="anonymous")
CONTROL = Caller(user_id=None, name="control socket", is_admin=True)
