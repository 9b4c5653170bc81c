"""What Prometheus reads of the gateway. Source: contract `olla.md`, section 13."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector


@dataclass(frozen=True, slots=True)
class EndpointFigures:
    name: str
    up: bool
    in_flight: int
    requests: int
    failures: int
    buckets: Sequence[tuple[str, float]]
    """Upper end in seconds, as text, with how many requests took no longer."""
    seconds: float
    """All of them together."""


@dataclass(frozen=True, slots=True)
class GatewayFigures:
    requests: int
    failures: int
    endpoints: Sequence[EndpointFigures]
    models: Mapping[str, int]
    """Requests by model; the names are those that endpoints list, and bounded."""


class GatewayCollector(Collector):
    """Asked at each scrape."""

    def __init__(self, figures: Callable[[], GatewayFigures]) -> None:
        self._figures = figures
        self._started = time.monotonic()

    def collect(self) -> Iterable[Metric]:
        told = self._figures()
        yield counter("olla_requests", "client requests that were relayed or meant to be", told.requests)
        yield counter("olla_failures", "of these, answered with 5xx or broken off", told.failures)
        yield gauge("olla_endpoints_total", "endpoints that are configured", len(told.endpoints))
        yield gauge("olla_endpoints_healthy", "endpoints that are up", sum(one.up for one in told.endpoints))
        yield gauge("olla_active_connections", "requests in flight", sum(one.in_flight for one in told.endpoints))
        yield gauge("olla_uptime_seconds", "since the start", time.monotonic() - self._started)
        up = GaugeMetricFamily("olla_endpoint_up", "1 while the endpoint is up", labels=["endpoint"])
        requests = CounterMetricFamily("olla_endpoint_requests", "attempts sent to an endpoint", labels=["endpoint"])
        failures = CounterMetricFamily("olla_endpoint_failures", "attempts that failed", labels=["endpoint"])
        seconds = HistogramMetricFamily("olla_endpoint_seconds", "time to the last byte", labels=["endpoint"])
        for one in told.endpoints:
            up.add_metric([one.name], float(one.up))
            requests.add_metric([one.name], one.requests)
            failures.add_metric([one.name], one.failures)
            seconds.add_metric([one.name], list(one.buckets), one.seconds)
        models = CounterMetricFamily("olla_model_requests", "requests by model", labels=["model"])
        for name, count in told.models.items():
            models.add_metric([name], count)
        yield from (up, requests, failures, seconds, models)


def counter(name: str, text: str, value: float) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text)
    family.add_metric([], value)
    return family


def gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text)
    family.add_metric([], value)
    return family
