"""What became of a request on its way to an endpoint elsewhere, noted as it happens."""

from __future__ import annotations

from dataclasses import dataclass, field

from atrium.core.answers import Usage
from atrium.core.requests import Dialect


@dataclass(frozen=True, slots=True)
class Beside:
    """What another model read or wrote for a request, such as the vector of its question."""

    model: str
    endpoint: str
    """Empty for the built-in engine."""
    usage: Usage
    exact: bool = True
    """Whoever answered said how many tokens; else they are an estimate."""


@dataclass(slots=True)
class Trail:
    """One request's. Whoever answers it reads here what to tell of it; seconds throughout."""

    request_id: str = ""
    address: str = ""
    """The caller's."""
    lossy: bool = False
    """The caller, or the server's settings, would rather lose a field than be refused."""
    candidates: tuple[str, ...] = ()
    passed: tuple[tuple[str, str], ...] = ()
    """Name of each endpoint that was passed over, with the reason."""
    tries: list[tuple[str, str, float]] = field(default_factory=list[tuple[str, str, float]])
    """Endpoint, how it went, seconds."""
    waited: float = 0.0
    """For an endpoint that was busy with all it may have."""
    endpoint: str = ""
    """Who answers; empty for the built-in engine, and as long as nobody does."""
    kind: str = ""
    model: str = ""
    """As the endpoint spells it."""
    dialect: Dialect | None = None
    """Which one the endpoint was asked in."""
    dropped: list[str] = field(default_factory=list[str])
    """Fields that the endpoint's dialect has no word for."""
    beside: list[Beside] = field(default_factory=list[Beside])
    estimated: Usage | None = None
    """What was used as far as it could be counted, where an endpoint tells nothing of it."""

    def aside(self) -> Trail:
        """For work beside the answer: where that goes and what it loses is not told, what it uses is."""
        return Trail(self.request_id, self.address, lossy=True, beside=self.beside)
