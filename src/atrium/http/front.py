"""What answers on a socket: the application, and the lane in front of it."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.types import ASGIApp

from atrium.http.lane import Lane
from atrium.http.reload import Reload


@dataclass(frozen=True, slots=True)
class Front:
    app: ASGIApp
    lane: Lane | None = None
    reload: Reload | None = None
