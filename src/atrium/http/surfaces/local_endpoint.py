"""The built-in engine among the endpoints on the gateway's pages. Source: contract `olla.md`, sections 3.1 and 12."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from atrium.core.endpoints import Health, Offered
from atrium.core.kinds import ANY_OPENAI, EVERY
from atrium.core.models import Ability, ModelCard
from atrium.dialects.olla import words
from atrium.dialects.olla.listings import Source
from atrium.http.lane import Lane
from atrium.http.surfaces.status_rows import latencies
from atrium.relay.tally import LOCAL

Json = dict[str, Any]
KIND = "atrium"
PRIORITY = 0


def sources_of(lane: Lane, prefix: str) -> Iterator[Source]:
    """Every model of every endpoint of that prefix, up or down."""
    for endpoint in lane.directory.qualifying(prefix):
        for offered in endpoint.offered.values():
            yield Source(endpoint.spec.name, endpoint.spec.kind.name, endpoint.health, offered)
    if prefix in (EVERY, ANY_OPENAI):
        loaded = {one.model for one in lane.gateway.running() if one.pid is not None}
        for card in lane.gateway.models.listed():
            yield Source(LOCAL, KIND, Health.HEALTHY, offered_by(card, loaded=card.name in loaded))


def offered_by(card: ModelCard, *, loaded: bool) -> Offered:
    """An installed model in an endpoint's words."""
    return Offered(
        name=card.name,
        created=card.created,
        owner=KIND,
        size=card.size,
        digest=card.digest,
        context=card.facts.dimensions.trained_context,
        type="embeddings" if Ability.EMBEDDING in card.abilities else "llm",
        loaded=loaded,
    )


def takes_part(lane: Lane) -> bool:
    """Only once it has a model is it an endpoint."""
    return bool(lane.gateway.models.listed())


def common(lane: Lane, now: float) -> Json:
    """It is here, and needs no check to be known."""
    tally = lane.directory.tallies.local
    return {
        "id": LOCAL,
        "name": LOCAL,
        "url": "",
        "type": KIND,
        "status": Health.HEALTHY.value,
        "priority": PRIORITY,
        "success_rate": words.share(tally.successes, tally.ended),
        **latencies(tally),
        "health_check_at": words.stamp(now),
        "next_check_at": words.stamp(now),
        "issues": "",
    }


def short(lane: Lane, now: float) -> Sequence[Json]:
    """Its row in the overview; none while it has no model."""
    if not takes_part(lane):
        return ()
    tally = lane.directory.tallies.local
    models = {"last_updated": words.stamp(now), "count": len(lane.gateway.models.listed())}
    row = {
        **common(lane, now),
        "avg_latency": words.span(tally.mean) if tally.timed else "N/A",
        "traffic": words.size(tally.traffic),
        "connections": busy(lane),
        "requests": tally.requests,
        "last_check": words.ago(now, now),
        "next_check": words.ahead(now, now),
        "models": models,
    }
    return (row,)


def full(lane: Lane, now: float) -> Sequence[Json]:
    """Its row in the list of endpoints; none while it has no model."""
    if not takes_part(lane):
        return ()
    tally = lane.directory.tallies.local
    row = {
        **common(lane, now),
        "model_count": len(lane.gateway.models.listed()),
        "request_count": tally.requests,
        "active_connections": busy(lane),
        "health_check": words.ago(now, now),
        "response_time": words.span(0.0),
        "circuit": "closed",
        "consecutive_failures": tally.in_a_row,
        "last_model_sync": words.ago(now, now),
        "last_model_sync_at": words.stamp(now),
    }
    return (row,)


def busy(lane: Lane) -> int:
    """Answers that are being made or waited for."""
    return sum(one.busy + one.waiting for one in lane.gateway.running())
