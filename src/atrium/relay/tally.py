"""Counters of what was relayed: per endpoint, per model, and for the gateway as a whole. Bounded in memory."""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from dataclasses import dataclass, field

import msgspec

MOST_MODELS = 1000
LOCAL = "local"
"""The built-in engine, as an endpoint among the others."""
MOST_CLIENTS = 4096
EDGES = (
    *(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0),
    *(45.0, 60.0, 120.0, 300.0, 600.0),
)
"""Upper ends of the latency buckets, in seconds."""


class Took(msgspec.Struct, frozen=True, gc=False):
    """What one request cost. Seconds, bytes; `at` on the wall clock."""

    seconds: float
    size: int
    failed: bool
    at: float
    bucket: int
    """Of the latency, in `EDGES`."""


def took(seconds: float, size: int, *, failed: bool, at: float) -> Took:
    return Took(seconds, size, failed, at, bisect_left(EDGES, seconds))


@dataclass(slots=True)
class Tally:
    """Attempts that were sent somewhere, and how they went. Seconds, bytes."""

    requests: int = 0
    ended: int = 0
    refused: int = 0
    """Of these, the ones that reached nobody: they took no time worth telling."""
    failures: int = 0
    traffic: int = 0
    total: float = 0.0
    least: float = 0.0
    most: float = 0.0
    last: float = 0.0
    """When the last one ended, on the wall clock; 0 for never."""
    in_a_row: int = 0
    """Failures since the last success."""
    buckets: list[int] = field(default_factory=lambda: [0] * (len(EDGES) + 1))

    def note(self, took: Took) -> None:
        seconds = took.seconds
        first = self.ended == self.refused
        self.ended += 1
        self.traffic += took.size
        self.total += seconds
        if seconds > self.most:
            self.most = seconds
        if seconds < self.least or first:
            self.least = seconds
        self.last = took.at
        self.buckets[took.bucket] += 1
        if took.failed:
            self.failures += 1
            self.in_a_row += 1
        else:
            self.in_a_row = 0

    def note_refused(self, at: float) -> None:
        """A connection was refused."""
        self.ended += 1
        self.refused += 1
        self.failures += 1
        self.in_a_row += 1
        self.last = at

    @property
    def timed(self) -> int:
        return self.ended - self.refused

    @property
    def mean(self) -> float:
        return self.total / self.timed if self.timed else 0.0

    @property
    def successes(self) -> int:
        return self.ended - self.failures

    def cumulated(self) -> list[tuple[str, float]]:
        """Upper ends as text, with how many took no longer, the last without an end."""
        rows: list[tuple[str, float]] = []
        seen = 0
        for edge, count in zip((*EDGES, None), self.buckets, strict=True):
            seen += count
            rows.append(("+Inf" if edge is None else f"{edge:g}", float(seen)))
        return rows

    def quantile(self, share: float) -> float:
        """Upper end of the bucket that holds this share of all, in seconds."""
        wanted = self.timed * share
        seen = 0
        for edge, count in zip((*EDGES, self.most), self.buckets, strict=True):
            seen += count
            if seen >= wanted and count:
                return min(edge, self.most)
        return self.most


@dataclass(slots=True)
class ModelTally:
    by_endpoint: dict[str, Tally] = field(default_factory=dict[str, Tally])
    clients: set[str] = field(default_factory=set[str])
    hits: int = 0
    misses: int = 0
    """Requests that nobody could answer of those who have it."""
    fallbacks: int = 0
    """Requests that went to an endpoint which does not list it."""

    @property
    def requests(self) -> int:
        return sum(part.requests for part in self.by_endpoint.values())

    @property
    def own(self) -> Tally:
        """Of all endpoints together; added up when somebody asks."""
        return merged(tuple(self.by_endpoint.values()))


def merged(parts: tuple[Tally, ...]) -> Tally:
    whole = Tally()
    for part in sorted(parts, key=lambda one: one.last):
        if part.timed:
            whole.least = min(whole.least, part.least) if whole.timed else part.least
        whole.most = max(whole.most, part.most)
        whole.requests += part.requests
        whole.ended += part.ended
        whole.refused += part.refused
        whole.failures += part.failures
        whole.traffic += part.traffic
        whole.total += part.total
        whole.last = part.last
        whole.in_a_row = part.in_a_row
        whole.buckets = [a + b for a, b in zip(whole.buckets, part.buckets, strict=True)]
    return whole


class Tallies:
    def __init__(self) -> None:
        self.requests = 0
        """Client requests that were relayed or meant to be, one each."""
        self.failures = 0
        """Of these, whose final answer was 5xx or broke off."""
        self.ended = Tally()
        self.local = Tally()
        """The built-in engine's part in them, and what it was asked for by other doors."""
        self.models: OrderedDict[str, ModelTally] = OrderedDict()

    def model(self, name: str) -> ModelTally:
        """`name` is one that some endpoint has listed; the one unused for longest makes room."""
        known = self.models.get(name)
        if known is None:
            known = self.models[name] = ModelTally()
            if len(self.models) > MOST_MODELS:
                self.models.popitem(last=False)
        return known

    def note_local(self, name: str, client: str, took: Took) -> None:
        """The built-in engine has answered, or failed to."""
        self.local.requests += 1
        self.local.note(took)
        self.note_model(name, LOCAL, client, took)

    def note_model(self, name: str, endpoint: str, client: str, took: Took) -> None:
        model = self.model(name)
        self.models.move_to_end(name)
        model.hits += 1
        if client not in model.clients and len(model.clients) < MOST_CLIENTS:
            model.clients.add(client)
        own = model.by_endpoint.get(endpoint)
        if own is None:
            own = model.by_endpoint[endpoint] = Tally()
        own.requests += 1
        own.note(took)

    def note_fallback(self, name: str) -> None:
        """Only for a name that was listed once: others make no entry, or anybody could fill the memory with names."""
        if name in self.models:
            self.models[name].fallbacks += 1


@dataclass(slots=True)
class Translator:
    """Requests that went from one dialect into another. Seconds."""

    requests: int = 0
    failures: int = 0
    streams: int = 0
    seconds: float = 0.0
    ended: int = 0

    def note(self, seconds: float, *, failed: bool) -> None:
        self.ended += 1
        self.failures += failed
        self.seconds += seconds


class Translations:
    """A translator for each pair of dialects, by the names of both."""

    def __init__(self) -> None:
        self.pairs: dict[tuple[str, str], Translator] = {("openai", "ollama"): Translator()}
        self.pairs["ollama", "openai"] = Translator()

    def of(self, caller: str, target: str) -> Translator:
        return self.pairs.setdefault((caller, target), Translator())
