"""The one live book of endpoints: health, models, circuits, what is in flight. It changes only between awaits."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from atrium.core.endpoints import ROUTABLE, EndpointSpec, Health, Offered
from atrium.core.errors import Conflict, NotFound
from atrium.core.events import Tell, nobody_hears
from atrium.core.requests import Dialect
from atrium.decisions.break_circuit import CLOSED, SECONDS_OPEN, Circuit, Outcome, ended, sent
from atrium.decisions.choose_endpoint import Balancing, qualifies
from atrium.relay.pool import Pool, PoolBounds
from atrium.relay.tally import Tallies, Tally, Translations

REMEMBERED = 24 * 3600.0
"""Seconds that the models of an endpoint which is down are kept, to tell unknown from unavailable."""
MOST_TURNS = 4096
REFUSED_FOR = 10.0
"""Seconds that an endpoint which is never checked counts as down after a refused connection."""
LATEST = ":latest"


@dataclass(slots=True)
class Checked:
    """What the checker knows. Times on the wall clock, 0 for never."""

    at: float = 0.0
    next_at: float = 0.0
    took: float = 0.0
    failures: int = 0
    listed_at: float = 0.0
    stale: bool = False
    """The models were changed since they were listed."""
    path: str = ""
    """The probe's path once the default one was found missing."""


@dataclass(slots=True)
class Edition:
    """Counts what has changed in the directory, so that a choice may be used again while nothing has."""

    number: int = 0
    troubled: int = 0
    """Circuits that are not closed: with one of them a choice depends on the time."""


class Endpoint:
    """One endpoint as it stands. A `Standing` for `choose_endpoint`."""

    def __init__(self, spec: EndpointSpec, pool: Pool, identity: str, edition: Edition) -> None:
        self.spec = spec
        self.pool = pool
        self.id = identity
        self._edition = edition
        self._health = Health.UNKNOWN if spec.check_interval else Health.HEALTHY
        self._circuit: Circuit = CLOSED
        self.rest = SECONDS_OPEN
        self.in_flight = 0
        self.promised = 0
        """Turns that were given to who waited and has not begun yet."""
        self.tally = Tally()
        self.checked = Checked()
        self.health_at = self
        """Who is asked whether it is well."""
        self.v1 = True
        """For Ollama: whether it serves OpenAI's paths as well, as far as anybody knows."""
        self.version: tuple[int, ...] = ()
        """For Ollama: its version's numbers."""
        self.offered: Mapping[str, Offered] = {}
        """Models by the name as listed."""
        self.warm: frozenset[str] | None = frozenset() if spec.kind.on_demand else None
        """Folded names of the models in its memory, where they are looked up; None: all that it lists."""
        self.waiting: deque[Callable[[], None]] = deque()
        """Requests that wait for `max_concurrent`; each is called once when its turn comes."""
        self._folded: dict[str, str] = {}
        own = frozenset(name for name, _ in spec.headers)
        self.own_headers = own
        self.own_and_coding = own | {b"accept-encoding"}
        """What stays here when the answer is to be read on its way: it must come as it is."""
        lines = [b"host: %b\r\n" % spec.authority.encode()]
        lines += [b"%b: %b\r\n" % header for header in spec.headers]
        self.fixed_lines = b"".join(lines)

    @property
    def health(self) -> Health:
        return self._health

    @health.setter
    def health(self, health: Health) -> None:
        self._health = health
        self._edition.number += 1

    @property
    def circuit(self) -> Circuit:
        return self._circuit

    @circuit.setter
    def circuit(self, circuit: Circuit) -> None:
        if circuit is not self._circuit:
            self._edition.troubled += (circuit is not CLOSED) - (self._circuit is not CLOSED)
            self._edition.number += 1
            self._circuit = circuit

    def has(self, model: str) -> bool:
        return model in self._folded

    def holds(self, model: str) -> bool:
        return self.has(model) if self.warm is None else model in self.warm

    def name_of(self, model: str) -> str:
        """As the endpoint spells it."""
        return self._folded.get(model.casefold(), model)

    def speaks(self, dialect: Dialect) -> bool:
        kind = self.spec.kind
        if dialect is Dialect.OLLAMA:
            return kind.speaks_ollama
        return dialect is Dialect.OPENAI and kind.speaks_openai and self.v1

    @property
    def routable(self) -> bool:
        return self.health in ROUTABLE

    @property
    def full(self) -> bool:
        return bool(self.spec.max_concurrent) and self.in_flight + self.promised >= self.spec.max_concurrent

    def list_models(self, models: Sequence[Offered], now: float) -> None:
        spec = self.spec
        kept = [
            one
            for one in models
            if (not spec.include or any(fnmatchcase(one.name, glob) for glob in spec.include))
            and not any(fnmatchcase(one.name, glob) for glob in spec.exclude)
        ]
        self.offered = {one.name: self._dated(one, now) for one in kept}
        folded: dict[str, str] = {}
        for one in kept:
            for name in foldings(one.name, tagged=spec.kind.speaks_ollama):
                folded.setdefault(name, one.name)
        self._folded = folded
        self._edition.number += 1
        self.checked.listed_at, self.checked.stale = now, False

    def _dated(self, one: Offered, now: float) -> Offered:
        """A model without a date was made when it was first seen."""
        if one.created:
            return one
        before = self.offered.get(one.name)
        return replace(one, created=before.created if before else int(now))

    def forget_models(self) -> None:
        self.offered, self._folded = {}, {}
        self._edition.number += 1

    def detach(self) -> None:
        """It is in the directory no more: what becomes of it changes no choice."""
        self.circuit = CLOSED
        self._edition.number += 1
        self._edition = Edition()

    def close_unused(self, now: float) -> None:
        """Connections that have idled for too long. `now` on the monotonic clock."""
        for pool in {self.pool, self.health_at.pool}:
            pool.close_unused(now)

    def close(self) -> None:
        """Answers under way go on to their end."""
        for pool in {self.pool, self.health_at.pool}:
            pool.close()

    def inherit(self, old: Endpoint) -> None:
        """The same server under other rules."""
        self.health, self.circuit, self.checked = old.health, old.circuit, old.checked
        self.list_models(tuple(old.offered.values()), old.checked.listed_at)
        self.warm = old.warm
        # Others may be wanted of it now.
        self.checked.stale = True

    def lease(self, now: float) -> None:
        self.in_flight += 1
        self.tally.requests += 1
        if self._circuit is not CLOSED:
            self.circuit = sent(self._circuit, now)

    def give_back(self, outcome: Outcome, now: float) -> None:
        """Exactly once for each lease."""
        self.in_flight -= 1
        if outcome is not Outcome.SUCCESS or self._circuit is not CLOSED:
            self.circuit = ended(self._circuit, outcome, now, self.rest)
        if self.waiting:
            self.wake()

    def wake(self) -> None:
        """Give a free turn to who has waited longest; it is theirs until they lease or let it go."""
        if self.waiting and not self.full:
            self.promised += 1
            self.waiting.popleft()()


def foldings(name: str, *, tagged: bool) -> tuple[str, ...]:
    """Under which names a model is found: Ollama's `:latest` may be left out, and put behind a name without a tag.

    `tagged`: the endpoint's names have tags.
    """
    low = name.casefold()
    if low.endswith(LATEST):
        return (low, low.removesuffix(LATEST)) if tagged else (low,)
    return (low,) if tagged or ":" in low.rpartition("/")[2] else (low, low + LATEST)


def in_order(endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    return tuple(sorted(endpoints, key=lambda one: (-one.spec.priority, one.spec.name)))


@dataclass(slots=True)
class Directory:
    bounds: PoolBounds
    aliases: Mapping[str, tuple[str, ...]]
    balancing: Balancing
    optimistic: bool = False
    rest: float = SECONDS_OPEN
    """Seconds that an endpoint which keeps failing is passed over."""
    tell: Tell = nobody_hears
    endpoints: tuple[Endpoint, ...] = ()
    """By priority, high first, then by name."""
    tallies: Tallies = field(default_factory=Tallies)
    edition: Edition = field(default_factory=Edition)
    translations: Translations = field(default_factory=Translations)
    _turns: OrderedDict[tuple[str, str], int] = field(default_factory=OrderedDict[tuple[str, str], int])

    @property
    def balancer(self) -> str:
        return self.balancing.balancer

    def add(self, spec: EndpointSpec) -> Endpoint:
        """Raises Conflict when the name is taken."""
        if any(one.spec.name == spec.name for one in self.endpoints):
            raise Conflict(f"There is an endpoint named '{spec.name}'", param="name")
        endpoint = self.made(spec, self.identity(spec))
        self.edition.number += 1
        self.endpoints = in_order((*self.endpoints, endpoint))
        return endpoint

    def made(self, spec: EndpointSpec, identity: str) -> Endpoint:
        endpoint = Endpoint(spec, Pool(spec, self.bounds), identity, self.edition)
        endpoint.rest = self.rest
        if spec.health_at:
            endpoint.health_at = Endpoint(spec.health_at, Pool(spec.health_at, self.bounds), identity, Edition())
        return endpoint

    def renewed(self, old: Endpoint, spec: EndpointSpec) -> Endpoint:
        """What `old` shall be from now on, not yet in its place. The same server keeps its health and models."""
        others = Directory(self.bounds, self.aliases, self.balancing)
        others.endpoints = tuple(one for one in self.endpoints if one is not old)
        new = self.made(spec, others.identity(spec))
        new.tally = old.tally
        if (spec.url, spec.kind, spec.headers) == (old.spec.url, old.spec.kind, old.spec.headers):
            new.inherit(old)
        return new

    def swap(self, new: Endpoint) -> None:
        """Answers under way at the old one go on to their end."""
        old = self.one(new.spec.name)
        rest = (one for one in self.endpoints if one is not old)
        self.endpoints = in_order((*rest, new))
        old.detach()
        old.close()
        self.edition.number += 1

    def remove(self, name: str) -> Endpoint:
        """Raises NotFound. Answers under way go on to their end."""
        endpoint = self.one(name)
        self.endpoints = tuple(one for one in self.endpoints if one is not endpoint)
        endpoint.detach()
        endpoint.close()
        return endpoint

    def one(self, name: str) -> Endpoint:
        """Raises NotFound."""
        for endpoint in self.endpoints:
            if endpoint.spec.name == name:
                return endpoint
        raise NotFound(f"There is no endpoint named '{name[:100]}'")

    def qualifying(self, prefix: str) -> Iterator[Endpoint]:
        return (one for one in self.endpoints if qualifies(one.spec.kind, prefix))

    def turn(self, prefix: str, model: str) -> int:
        """Counts the requests of each prefix and model, so that unrelated traffic skews nobody's turns."""
        key = (prefix, model)
        turn = self._turns.get(key, 0)
        self._turns[key] = turn + 1
        if len(self._turns) > MOST_TURNS:
            self._turns.popitem(last=False)
        return turn

    def known(self, prefix: str, models: Sequence[str], target: str = "") -> bool:
        """Whether a qualifying endpoint, up or down, has listed one of these; `target`: whether that very one has."""
        return any(True for _ in self.listing(prefix, models, target))

    def listing(self, prefix: str, models: Sequence[str], target: str = "") -> Iterator[Endpoint]:
        """Those endpoints."""
        asked = (one for one in self.qualifying(prefix) if target in ("", one.spec.name))
        return (one for one in asked if any(one.has(model) for model in models))

    def pinned(self, model: str) -> tuple[str, str] | None:
        """Endpoint and model of a name such as `den/llama3`, where there is an endpoint `den`."""
        endpoint, _, rest = model.partition("/")
        return (endpoint, rest) if any(one.spec.name == endpoint for one in self.endpoints) else None

    def refused(self, endpoint: Endpoint) -> None:
        """A connection was refused while relaying: that counts as much as a failed check, and is told as one."""
        before, endpoint.health = endpoint.health, Health.OFFLINE
        self.tell_health(endpoint, before)
        if not endpoint.spec.check_interval:
            asyncio.get_running_loop().call_later(REFUSED_FOR, self._restore, endpoint)

    def _restore(self, endpoint: Endpoint) -> None:
        before, endpoint.health = endpoint.health, Health.HEALTHY
        self.tell_health(endpoint, before)

    def tell_health(self, endpoint: Endpoint, before: Health) -> None:
        """Where it is another than `before`."""
        if endpoint.health is not before:
            fields = {"endpoint": endpoint.spec.name, "before": before.value, "now": endpoint.health.value}
            self.tell("endpoint.changed", fields)

    def missed(self, prefix: str, models: Sequence[str], target: str = "") -> None:
        """Nobody who has one of these could be asked."""
        for one in self.qualifying(prefix):
            for model in models:
                if target in ("", one.spec.name) and one.has(model):
                    self.tallies.model(one.name_of(model)).misses += 1
                    return

    def sweep(self, now: float) -> None:
        """Close unused connections. `now` on the monotonic clock."""
        for endpoint in self.endpoints:
            endpoint.close_unused(now)

    def close(self) -> None:
        for endpoint in self.endpoints:
            endpoint.close()

    def identity(self, spec: EndpointSpec) -> str:
        """Stable across restarts; twins are numbered."""
        own = hashlib.sha256(spec.url.encode()).hexdigest()[:10]
        taken = {one.id for one in self.endpoints}
        return next(i for i in (own, *(f"{own}-{n}" for n in range(2, len(taken) + 3))) if i not in taken)
