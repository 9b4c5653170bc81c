"""What goes into the audit log."""

from __future__ import annotations

from datetime import UTC, datetime

from atrium.core.people import Act, Caller


def act_by(caller: Caller, action: str, address: str, detail: str = "") -> Act:
    """Of this moment. `action`: method and path."""
    shown, details = ("".join(c if c.isprintable() else "�" for c in text) for text in (action, detail))
    return Act(datetime.now(UTC), caller.name, caller.user_id, address, shown, details)
