"""What Prometheus reads. Labels come from fixed sets or from installed models, so their number is bounded."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from atrium.core.answers import Timing, Usage
from atrium.core.endpoints import RunnerState, RunnerStatus

SPEEDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
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


@dataclass(slots=True)
class Latencies:
    total: float = 0.0
    counts: list[int] = field(default_factory=lambda: [0] * (len(SECONDS) + 1))


class RequestCollector(Collector):
    """Counts every request. The library's own counters take a lock for each figure, which costs more than the rest."""

    def __init__(self) -> None:
        self.in_flight = 0
        self._statuses: dict[tuple[str, int], int] = {}
        self._seconds: dict[str, Latencies] = {}

    def ended(self, surface: str, status: int, seconds: float) -> None:
        self.in_flight -= 1
        key = (surface, status)
        self._statuses[key] = self._statuses.get(key, 0) + 1
        known = self._seconds.get(surface)
        if known is None:
            known = self._seconds[surface] = Latencies()
        known.total += seconds
        known.counts[bisect_left(SECONDS, seconds)] += 1

    def collect(self) -> Iterable[Metric]:
        requests = CounterMetricFamily(
            "atrium_requests", "requests by surface and status", labels=["surface", "status"]
        )
        for (surface, status), count in self._statuses.items():
            requests.add_metric([surface, str(status)], count)
        seconds = HistogramMetricFamily("atrium_request_seconds", "time to the last byte", labels=["surface"])
        for surface, known in self._seconds.items():
            ends = [f"{end:g}" for end in SECONDS] + ["+Inf"]
            rows = [(end, float(sum(known.counts[: i + 1]))) for i, end in enumerate(ends)]
            seconds.add_metric([surface], rows, known.total)
        in_flight = GaugeMetricFamily("atrium_requests_in_flight", "requests being answered")
        in_flight.add_metric([], self.in_flight)
        yield from (requests, seconds, in_flight)


class Metrics:
    def __init__(self, running: Callable[[], Sequence[RunnerStatus]], *parts: Collector) -> None:
        """`parts` tell figures of their own, as those do that are registered later."""
        self._registry = CollectorRegistry()
        for part in parts:
            self._registry.register(part)
        self._registry.register(RunnerCollector(running))
        self._requests = RequestCollector()
        self._registry.register(self._requests)
        self._tokens = Counter("atrium_tokens", "tokens by model and kind", ["model", "kind"], registry=self._registry)
        self._queued = Histogram(
            "atrium_queue_seconds", "wait for a slot", ["model"], buckets=SECONDS, registry=self._registry
        )

        self._speeds = Histogram(
            "atrium_tokens_per_second",
            "speed of answers: reading the prompt, writing the answer",
            ["model", "phase"],
            buckets=SPEEDS,
            registry=self._registry,
        )

    def register(self, collector: Collector) -> None:
        """Let a part tell figures of its own at each scrape."""
        self._registry.register(collector)

    def begun(self) -> None:
        self._requests.in_flight += 1

    def withdrawn(self) -> None:
        """Begun by one lane, and to be begun again by the other."""
        self._requests.in_flight -= 1

    def ended(self, surface: str, status: int, seconds: float) -> None:
        self._requests.ended(surface, status, seconds)

    def spent(self, model: str, usage: Usage, timing: Timing) -> None:
        """`model` is an installed model's own name, never what a caller wrote."""
        self._tokens.labels(model, "prompt").inc(usage.prompt_tokens)
        self._tokens.labels(model, "completion").inc(usage.completion_tokens)
        self._queued.labels(model).observe(timing.queued)
        if timing.prompt > 0 and usage.prompt_tokens > usage.cached_tokens:
            self._speeds.labels(model, "prompt").observe((usage.prompt_tokens - usage.cached_tokens) / timing.prompt)
        if timing.generation > 0 and usage.completion_tokens:
            self._speeds.labels(model, "generation").observe(usage.completion_tokens / timing.generation)

    def render(self) -> bytes:
        return generate_latest(self._registry)
