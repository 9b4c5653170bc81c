"""Moments in a query: of any zone, UTC where none is named, and within what both databases and arithmetic can hold."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import AfterValidator

EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(9999, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def in_utc(moment: datetime) -> datetime:
    """Raises ValueError."""
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    if not EARLIEST <= aware < LATEST:
        raise ValueError("it must lie between the years 1970 and 9999")
    return aware.astimezone(UTC)


def whole_hour(moment: datetime, *, up: bool = False) -> datetime:
    """The hour that it lies in; `up`: where that hour ends."""
    hour = moment.replace(minute=0, second=0, microsecond=0)
    return hour + HOUR if up and hour < moment else hour


Moment = Annotated[datetime, AfterValidator(in_utc)]
