"""How usage is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from atrium.settings.marks import AtLeast, Doc, Duration


@dataclass(frozen=True, slots=True)
class UsageSettings:
    queue: Annotated[int, Doc("records that may wait to be written; more are folded by minute"), AtLeast(1)] = 1000
    keep: Annotated[Duration, Doc("how long single records are kept; their sums by the hour stay")] = 30 * 24 * 3600.0
