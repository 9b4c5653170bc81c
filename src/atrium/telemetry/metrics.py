"""What Prometheus reads. Labels come from fixed sets or from installed models, so their number is bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from atrium.core.answers import Timing, Usage
from atrium.core.endpoints import RunnerState, RunnerStatus

SECONDS = (0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300)


class RunnerCollector(Collector):
    """Asked at each scrape, so nothing has to be kept in step."""

    def __init__(self, running: Callable[[], Sequence[RunnerStatus]]) -> None:
        self._running = running

    def collect(self) -> Iterable[Metric]:
        statuses = self._running()
        columns: dict[str, tuple[str, Callable[[RunnerStatus], float]]] = {
            "atrium_runner_up": ("1 while the model is ready", lambda s: float(s.state is RunnerState.READY)),
            "atrium_runner_slots_busy": ("answers being made", lambda s: s.busy),
            "atrium_runner_waiting": ("requests that wait for the model or a slot", lambda s: s.waiting),
            "atrium_runner_memory_bytes": ("resident memory as measured", lambda s: s.memory_used),
        }
        for name, (text, value) in columns.items():
            family = GaugeMetricFamily(name, text, labels=["model"])
            for status in statuses:
                family.add_metric([status.model], value(status))
            yield family


class Metrics:
    def __init__(self, running: Callable[[], Sequence[RunnerStatus]]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(RunnerCollector(running))
        self._requests = Counter(
            "atrium_requests", "requests by surface and status", ["surface", "status"], registry=self._registry
        )
        self._known: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        """Children by surface and status: looking one up costs more than counting."""
        self._in_flight = Gauge("atrium_requests_in_flight", "requests being answered", registry=self._registry)
        self._seconds = Histogram(
            "atrium_request_seconds", "time to the last byte", ["surface"], buckets=SECONDS, registry=self._registry
        )
        self._tokens = Counter("atrium_tokens", "tokens by model and kind", ["model", "kind"], registry=self._registry)
        self._queued = Histogram(
            "atrium_queue_seconds", "wait for a slot", ["model"], buckets=SECONDS, registry=self._registry
        )

    def register(self, collector: Collector) -> None:
        """Let a part tell figures of its own at each scrape."""
        self._registry.register(collector)

    def begun(self) -> None:
        self._in_flight.inc()

    def withdrawn(self) -> None:
        """Begun by one lane, and to be begun again by the other."""
        self._in_flight.dec()

    def ended(self, surface: str, status: int, seconds: float) -> None:
        self._in_flight.dec()
        known = self._known.get((surface, status))
        if known is None:
            known = self._requests.labels(surface, str(status)), self._seconds.labels(surface)
            self._known[(surface, status)] = known
        known[0].inc()
        known[1].observe(seconds)

    def spent(self, model: str, usage: Usage, timing: Timing) -> None:
        """`model` is an installed model's own name, never what a caller wrote."""
        self._tokens.labels(model, "prompt").inc(usage.prompt_tokens)
        self._tokens.labels(model, "completion").inc(usage.completion_tokens)
        self._queued.labels(model).observe(timing.queued)

    def render(self) -> bytes:
        return generate_latest(self._registry)
