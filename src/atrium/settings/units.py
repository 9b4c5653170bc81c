"""Durations and sizes with units: `500ms`, `10m`, `100MB`."""

from __future__ import annotations

import re

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
BYTES = {"B": 1, "KB": 1024, "MB": 1024**2, "GB": 1024**3, "TB": 1024**4}
NEVER = -1.0
NUMBER = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*")


def read_duration(text: str) -> float:
    """Seconds. Raises ValueError."""
    return _read(text, SECONDS, "s", "a duration such as 500ms, 30s, 10m, 1h")


def read_stay(text: str) -> float:
    """Seconds; -1 for `never`. Raises ValueError."""
    if text.strip().lower() == "never":
        return NEVER
    return _read(text, SECONDS, "s", "a duration such as 10m, 0, or never")


def read_size(text: str) -> int:
    """Bytes; the units are powers of 1024. Raises ValueError."""
    return int(_read(text.upper(), {k: float(v) for k, v in BYTES.items()}, "B", "a size such as 512KB, 100MB, 2GB"))


def _read(text: str, units: dict[str, float], bare: str, expected: str) -> float:
    found = NUMBER.fullmatch(text)
    if not found or (found[2] or bare) not in units:
        raise ValueError(f"expected {expected}")
    return float(found[1]) * units[found[2] or bare]
