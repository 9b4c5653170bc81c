"""Figures as people read them on the status pages. Source: contract `olla.md`, section 12."""

from __future__ import annotations

from datetime import UTC, datetime

UNITS = (("TB", 1024**4), ("GB", 1024**3), ("MB", 1024**2), ("KB", 1024))


def span(seconds: float) -> str:
    """`85ms`, `1.2s`, `5m3s`, `1h4m10s`."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    if seconds < 60:
        return f"{seconds:.1f}".removesuffix(".0") + "s"
    whole = round(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    return f"{hours}h{minutes}m{whole % 60}s" if hours else f"{minutes}m{whole % 60}s"


def ago(moment: float, now: float) -> str:
    return f"{span(max(0.0, float(round(now - moment))))} ago" if moment else "never"


def ahead(moment: float, now: float) -> str:
    return f"in {span(max(0.0, float(round(moment - now))))}" if moment else "never"


def stamp(moment: float) -> str:
    """RFC 3339 in UTC; empty for never."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if moment else ""


def share(part: int, whole: int) -> str:
    """A percentage, or `N/A` without traffic."""
    return f"{100 * part / whole:.1f}%" if whole else "N/A"


def size(count: float) -> str:
    """`1.46 GB`, `0 B`."""
    for unit, factor in UNITS:
        if count >= factor:
            return f"{count / factor:.2f} {unit}"
    return f"{round(count)} B"


def milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
