"""Who may do what with a document store, as a table. Source: contract `lollms.md`, section 9.4."""

from __future__ import annotations

from enum import Enum

from atrium.core.documents import Act, Permission


class Verdict(Enum):
    ALLOWED = "allowed"
    FORBIDDEN = "forbidden"
    HIDDEN = "hidden"
    """The store's existence is not told."""


WRITERS = frozenset({Permission.OWNER, Permission.READ_WRITE, Permission.REVECTORIZE})


def reach_store(permission: Permission | None, act: Act, *, is_admin: bool) -> Verdict:
    """`permission`: what the caller is to the store; None: nothing at all."""
    if act is Act.DELETE and (is_admin or permission is Permission.OWNER):
        return Verdict.ALLOWED
    if permission is None:
        return Verdict.HIDDEN
    if act is Act.READ or (act is Act.WRITE and permission in WRITERS) or permission is Permission.OWNER:
        return Verdict.ALLOWED
    return Verdict.FORBIDDEN
