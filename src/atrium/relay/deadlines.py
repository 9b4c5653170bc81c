"""How long each part of an exchange may take. Every one has a bound."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds."""

    connect: float = 5.0
    head: float = 120.0
    """From the request's last byte to the complete response head."""
    between: float = 120.0
    """Longest silence within the body."""
    whole: float = 3600.0
    """From the request's last byte to the answer's."""

    def after_prompt(self, seconds: float) -> Deadlines:
        """The same for a request whose prompt may take so long to be read before anything is answered."""
        return replace(self, head=self.head + seconds)
