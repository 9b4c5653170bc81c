"""Who may use what, as a table of areas and callers. Source: contracts `olla.md` §1, `lollms.md` §1.4."""

from __future__ import annotations

from enum import Enum

from atrium.core.errors import Forbidden, MissingKey
from atrium.core.people import ANONYMOUS, Caller

KEY_FORM = "lollms_"
OPEN_PATHS = frozenset(
    {"/", "/ollama", "/ollama/", "/version", "/healthz", "/readyz", "/internal/health", "/openapi.json"}
)


class Area(Enum):
    OPEN = "open"
    USE = "use"
    """Inference and listings."""
    SIGHT = "sight"
    """Status, metrics."""
    ADMIN = "admin"


def area_of(path: str) -> Area:
    if path in OPEN_PATHS:
        return Area.OPEN
    if path.startswith("/api/admin/"):
        return Area.ADMIN
    if path == "/metrics" or path.startswith("/internal/"):
        return Area.SIGHT
    return Area.USE


def must_check(presented: str, area: Area, *, required: bool) -> bool:
    """Whether what was presented is looked up. Behind an open door only what looks like a key of ours counts as one.

    Raises MissingKey.
    """
    needed = required or area is Area.ADMIN
    if not presented and needed:
        raise MissingKey("This needs an API key", hint="Send it as 'Authorization: Bearer …'")
    return needed or presented.startswith(KEY_FORM)


def allow(caller: Caller | None, area: Area, *, required: bool) -> Caller:
    """The caller, if they may enter the area; nobody known is the anonymous user. Raises Forbidden."""
    known = caller or ANONYMOUS
    needs_admin = area is Area.ADMIN or (area is Area.SIGHT and required)
    if needs_admin and not known.is_admin:
        raise Forbidden("This needs an administrator's key")
    return known
