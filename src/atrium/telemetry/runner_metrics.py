"""What Prometheus reads of loads and evictions, counted from the events as they pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from prometheus_client.core import CounterMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from atrium.core.events import Tell

MOST_MODELS = 1000
OTHERS = "other"
"""Stands for models beyond the bound."""


class RunnerTallies(Collector):
    """Callable as an event log is: counts, and passes on."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._models: set[str] = set()
        self._loads = Counter[str]()
        self._seconds: dict[str, float] = {}
        self._evictions = Counter[str]()
        self._failures = Counter[str]()
        self._refusals = Counter[tuple[str, str]]()

    def __call__(self, name: str, fields: Mapping[str, object]) -> None:
        self._tell(name, fields)
        if name.startswith(("runner.", "model.")):
            self._count(name, self._label(str(fields.get("model", ""))), fields)

    def _count(self, name: str, model: str, fields: Mapping[str, object]) -> None:
        if name == "runner.ready":
            self._loads[model] += 1
            self._seconds[model] = self._seconds.get(model, 0.0) + float(str(fields["seconds"]))
        elif name == "model.unloaded" and fields.get("wanted"):
            self._evictions[model] += 1
        elif name == "runner.exited" and not fields["asked"]:
            self._failures[model] += 1
        elif name == "model.refused":
            self._refusals[model, str(fields["why"])] += 1

    def _label(self, model: str) -> str:
        if model not in self._models and len(self._models) >= MOST_MODELS:
            return OTHERS
        self._models.add(model)
        return model

    def collect(self) -> Iterable[Metric]:
        loads = SummaryMetricFamily("atrium_load_seconds", "loads of a model and what they took", labels=["model"])
        for model, count in self._loads.items():
            loads.add_metric([model], count, self._seconds[model])
        evictions = CounterMetricFamily("atrium_evictions", "unloads since another model was wanted", labels=["model"])
        for model, count in self._evictions.items():
            evictions.add_metric([model], count)
        failures = CounterMetricFamily("atrium_runner_failures", "runners that ended unasked", labels=["model"])
        for model, count in self._failures.items():
            failures.add_metric([model], count)
        refusals = CounterMetricFamily(
            "atrium_model_refusals", "requests refused before a model served them", labels=["model", "why"]
        )
        for (model, why), count in self._refusals.items():
            refusals.add_metric([model, why], count)
        yield from (loads, evictions, failures, refusals)
