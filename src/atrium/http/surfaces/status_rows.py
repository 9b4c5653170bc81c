"""Rows of the status documents: one endpoint, one model. Source: contract `olla.md`, sections 12.2, 12.3 and 12.5."""

from __future__ import annotations

from typing import Any

from atrium.core.endpoints import ROUTABLE
from atrium.decisions.break_circuit import State
from atrium.dialects.olla import words
from atrium.relay.directory import Endpoint
from atrium.relay.tally import ModelTally, Tally

Json = dict[str, Any]
SLOW_MEAN = 5.0
LOW_SHARE = 0.95


def in_order(endpoints: tuple[Endpoint, ...]) -> list[Endpoint]:
    """By priority, the healthy first, then by name."""
    return sorted(endpoints, key=lambda one: (-one.spec.priority, one.health not in ROUTABLE, one.spec.name))


def latencies(tally: Tally) -> Json:
    if not tally.timed:
        return {"min_latency_ms": 0, "max_latency_ms": 0}
    return {
        "min_latency_ms": words.milliseconds(tally.least),
        "max_latency_ms": words.milliseconds(tally.most),
        "avg_latency_ms": words.milliseconds(tally.mean),
    }


def issues(endpoint: Endpoint) -> str:
    tally = endpoint.tally
    told = {
        "unavailable": not endpoint.routable,
        "unstable": endpoint.routable and endpoint.circuit.failures > 0,
        "low success rate": bool(tally.ended) and tally.successes / tally.ended < LOW_SHARE,
        "high latency": tally.mean > SLOW_MEAN,
        "circuit open": endpoint.circuit.state is State.OPEN,
    }
    return ", ".join(issue for issue, so in told.items() if so)


def common(endpoint: Endpoint) -> Json:
    spec, checked = endpoint.spec, endpoint.checked
    return {
        "id": endpoint.id,
        "name": spec.name,
        "url": spec.url,
        "type": spec.kind.name,
        "status": endpoint.health.value,
        "priority": spec.priority,
        "success_rate": words.share(endpoint.tally.successes, endpoint.tally.ended),
        **latencies(endpoint.tally),
        "health_check_at": words.stamp(checked.at),
        "next_check_at": words.stamp(checked.next_at),
        "issues": issues(endpoint),
    }


def short(endpoint: Endpoint, now: float) -> Json:
    checked = endpoint.checked
    models = {"last_updated": words.stamp(checked.listed_at), "count": len(endpoint.offered)}
    return {
        **common(endpoint),
        "avg_latency": words.span(endpoint.tally.mean) if endpoint.tally.timed else "N/A",
        "traffic": words.size(endpoint.tally.traffic),
        "connections": endpoint.in_flight,
        "requests": endpoint.tally.requests,
        "last_check": words.ago(checked.at, now),
        "next_check": words.ahead(checked.next_at, now),
        "models": models,
    }


def full(endpoint: Endpoint, now: float) -> Json:
    checked = endpoint.checked
    shown = {
        **common(endpoint),
        "model_count": len(endpoint.offered),
        "request_count": endpoint.tally.requests,
        "active_connections": endpoint.in_flight,
        "health_check": words.ago(checked.at, now),
        "response_time": words.span(checked.took),
        "circuit": endpoint.circuit.state.value,
        "consecutive_failures": max(endpoint.circuit.failures, checked.failures),
    }
    if checked.listed_at:
        shown |= {
            "last_model_sync": words.ago(checked.listed_at, now),
            "last_model_sync_at": words.stamp(checked.listed_at),
        }
    return shown


def model_row(name: str, model: ModelTally, now: float, *, with_endpoints: bool) -> Json:
    own = model.own
    row: Json = {
        "name": name,
        "total_requests": own.requests,
        "successful_requests": own.successes,
        "failed_requests": own.failures,
        "success_rate": words.share(own.successes, own.ended),
        "total_traffic": words.size(own.traffic),
        "average_latency": words.span(own.mean),
        "p95_latency": words.span(own.quantile(0.95)),
        "p99_latency": words.span(own.quantile(0.99)),
        "unique_clients": len(model.clients),
        "last_requested": words.ago(own.last, now),
        "routing_hits": model.hits,
        "routing_misses": model.misses,
        "routing_fallbacks": model.fallbacks,
    }
    if with_endpoints:
        row["endpoint_breakdown"] = {
            endpoint: endpoint_row(endpoint, tally, now) for endpoint, tally in model.by_endpoint.items()
        }
    return row


def endpoint_row(name: str, tally: Tally, now: float) -> Json:
    return {
        "endpoint_name": name,
        "request_count": tally.requests,
        "success_rate": round(100 * tally.successes / tally.ended, 1) if tally.ended else 0.0,
        "average_latency": words.span(tally.mean),
        "last_used": words.ago(tally.last, now),
        "consecutive_errors": tally.in_a_row,
    }
