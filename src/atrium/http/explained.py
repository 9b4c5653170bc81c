"""What is kept of relayed and of translated requests to explain them; made into words only when somebody asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from atrium.core.answers import NO_USAGE, Usage
from atrium.core.trails import Trail
from atrium.decisions.choose_endpoint import Choice
from atrium.http.asked import Place
from atrium.http.edge import Exchange
from atrium.http.parties import Client
from atrium.http.route import Routing
from atrium.relay.directory import Endpoint

SHARED = ("id", "method", "path", "caller", "key", "status", "seconds", "bytes")
"""What every record has from the closing event."""
NO_TRIES: Sequence[tuple[str, str, float]] = ()


class RelayedRecord(msgspec.Struct, frozen=True, gc=False):
    """Seconds; `at` on the wall clock."""

    request_id: str
    place: Place
    caller: tuple[str | None, int | None]
    """Name and key."""
    address: str
    status: int
    sent: int
    broken: str
    took: tuple[float, float]
    """Seconds, and when it ended."""
    balancer: str
    model: str = ""
    ran: str = ""
    routing: Routing | None = None
    choice: Choice[Endpoint] | None = None
    tries: Sequence[tuple[str, str, float]] = NO_TRIES
    waited: float = 0.0
    usage: Usage = NO_USAGE

    def told(self) -> Mapping[str, object]:
        """Who called, which rule chose what and why the others were passed over, the tries, the waits."""
        seconds, at = self.took
        record: dict[str, object] = {
            "id": self.request_id,
            "method": self.place.method,
            "path": self.place.path,
            "caller": self.caller[0],
            "key": self.caller[1],
            "status": self.status,
            "seconds": round(seconds, 6),
            "bytes": self.sent,
            "at": at,
            "address": self.address,
            "broken": self.broken,
        }
        choice = self.choice
        if choice is None:
            return record
        return record | {
            "model": self.model,
            "ran": self.ran,
            "balancer": self.balancer,
            "routing": [part.decode() for part in self.routing or ()],
            "candidates": [one.spec.name for one in choice.ranked],
            "passed_over": dict(choice.passed),
            "tries": list(self.tries),
            "waited": self.waited,
            "prompt_tokens": self.usage.prompt_tokens,
            "completion_tokens": self.usage.completion_tokens,
        }


def relayed_record(
    request: Client, caller: tuple[str | None, int | None], took: tuple[float, float], balancer: str
) -> RelayedRecord:
    """`took`: seconds, and when it ended on the wall clock."""
    way = request.way
    head = (request.request_id, request.asked.place, caller, request.address)
    end = (request.status, request.sent, request.broken, took, balancer)
    if way is None:
        return RelayedRecord(*head, *end)
    return RelayedRecord(*head, *end, way.model, way.ran, way.routing, way.choice, way.tries, way.waited, way.usage)


@dataclass(frozen=True, slots=True)
class TranslatedRecord:
    closing: Mapping[str, object]
    at: float
    """When it ended, on the wall clock."""
    balancer: str
    trail: Trail
    usage: Usage

    def told(self) -> Mapping[str, object]:
        """Who called, who could have answered and why the others were passed over, the tries, what was lost."""
        trail, closing = self.trail, self.closing
        return {
            **{name: closing[name] for name in SHARED},
            "at": self.at,
            "address": trail.address,
            "broken": closing.get("broken", ""),
            "model": closing.get("model", trail.model),
            "ran": trail.model,
            "balancer": self.balancer,
            "routing": ["translated", trail.dialect.value if trail.dialect else "", trail.kind],
            "candidates": list(trail.candidates),
            "passed_over": dict(trail.passed),
            "tries": list(trail.tries),
            "waited": trail.waited,
            "dropped": list(trail.dropped),
            "prompt_tokens": self.usage.prompt_tokens,
            "completion_tokens": self.usage.completion_tokens,
        }


def translated_record(exchange: Exchange, closing: Mapping[str, object], at: float, balancer: str) -> TranslatedRecord:
    return TranslatedRecord(closing, at, balancer, exchange.trail, exchange.usage)
