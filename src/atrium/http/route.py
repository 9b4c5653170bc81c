"""Where requests for one place, target and model go: worked out once, good while the directory stays as it is."""

from __future__ import annotations

from typing import NamedTuple

from atrium.decisions.choose_endpoint import Choice, Wanted
from atrium.relay.directory import Endpoint

Routing = tuple[bytes, bytes, bytes]
"""Strategy, decision and reason."""


class Going(NamedTuple):
    """How a request goes to one endpoint."""

    ran: str
    """The model's name as it is sent."""
    listed: str
    """The same as the endpoint spells it, which is what is counted."""
    routing: Routing | None
    """None where no model was named."""
    source: bytes
    """Lines of the answer's head that tell which endpoint and model answered, and how they were found."""


class Route:
    __slots__ = ("choice", "going", "wanted")

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.choice: Choice[Endpoint] | None = None
        """Where it is the same for every request."""
        self.going: dict[Endpoint, Going] = {}
