"""What all relayed requests share: the directory, admission, limits, time, and the book of what happened to each."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from atrium.core.endpoints import Health
from atrium.core.errors import ModelNotFound
from atrium.core.kinds import ANY_OPENAI, EVERY
from atrium.core.models import Ability
from atrium.decisions.choose_endpoint import Choice, Standings, Wanted, choose_endpoint, nobody
from atrium.decisions.client_address import Network, is_trusted
from atrium.http.admission import Admission
from atrium.http.asked import Asked
from atrium.http.edge import closing_fields, surface_of
from atrium.http.limits import Limiter
from atrium.http.middleware.doors import HostCheck
from atrium.http.parties import Client
from atrium.relay.directory import Directory, Endpoint
from atrium.relay.discover import refresh
from atrium.relay.sessions import Sessions
from atrium.relay.tally import took
from atrium.services.list_models import ListModels
from atrium.settings.tree import Settings
from atrium.telemetry.gateway_metrics import EndpointFigures, GatewayFigures
from atrium.telemetry.metrics import Metrics

REFRESH_EVERY = 5.0
REFRESH_TIMEOUT = 2.0
LEAST_RETRY = 1.0
CLIENT_LEFT = 499


@dataclass(frozen=True, slots=True)
class Gateway:
    """What the lane is built from."""

    directory: Directory
    admission: Admission
    limiter: Limiter
    hosts: HostCheck
    models: ListModels
    metrics: Metrics
    tell: Callable[[str, Mapping[str, object]], None]
    loaded: Callable[[], frozenset[str]]
    """Names of local models that are in memory."""
    networks: tuple[Network, ...] = ()


class Lane:
    def __init__(self, gateway: Gateway, settings: Settings) -> None:
        self.gateway = gateway
        self.directory = gateway.directory
        self.settings = settings
        self.proxy = settings.proxy
        sticky = settings.sticky_sessions
        self.sessions = Sessions(sticky.max_sessions, sticky.idle_ttl_seconds) if sticky.enabled else None
        self.active: set[Client] = set()
        self.buffered = 0
        """Bytes of bodies that are held in memory."""
        self.explained: OrderedDict[str, Record] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None
        self._refreshed = -REFRESH_EVERY
        shortest = min(self.proxy.header_timeout, self.proxy.idle_timeout) or 1.0
        self._tick = min(1.0, shortest / 4)

    def apply(self, settings: Settings) -> None:
        """From the next request on."""
        self.settings = settings
        self.directory.aliases = settings.model_aliases
        self.gateway.limiter.apply(settings.limits)

    # Who comes in.

    def takes(self, prefix: str, *, olla: bool) -> bool:
        """Under `/olla` always; elsewhere only when there is an endpoint that could answer."""
        return olla or any(True for _ in self.directory.qualifying(prefix))

    def trusts(self, peer: str) -> bool:
        return bool(self.gateway.networks) and is_trusted(peer, self.gateway.networks)

    def joined(self, request: Client) -> None:
        self.active.add(request)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._tick, self._look)

    def left(self, request: Client) -> None:
        self.active.discard(request)

    def _look(self) -> None:
        """One timer for all requests under way."""
        self._timer = None
        now = time.monotonic()
        for request in list(self.active):
            request.look(now)
        if self.active:
            self._timer = asyncio.get_running_loop().call_later(self._tick, self._look)

    # Where it goes.

    def wanted(self, asked: Asked, model: str) -> Wanted:
        target = asked.header(b"x-olla-target").decode("latin-1")
        names = self.names_of(model)
        if "/" in model and not self.directory.known(asked.prefix, names) and (pinned := self.pinned(model)):
            return Wanted(asked.prefix, (pinned[1].casefold(),), pinned[0])
        return Wanted(asked.prefix, names, target)

    def pinned(self, model: str) -> tuple[str, str] | None:
        """Endpoint and model of a name such as `den/llama3`, where there is an endpoint `den`."""
        endpoint, _, rest = model.partition("/")
        return (endpoint, rest) if any(one.spec.name == endpoint for one in self.directory.endpoints) else None

    def names_of(self, model: str) -> tuple[str, ...]:
        """Folded names that will do for what was asked."""
        if not model:
            return ()
        targets = self.settings.model_aliases.get(model)
        return tuple(name.casefold() for name in targets) if targets else (model.casefold(),)

    def choose(self, wanted: Wanted, *, anyone: bool = False) -> Choice[Endpoint]:
        directory = self.directory
        turn = directory.turn(wanted.prefix, wanted.models[0] if wanted.models else "")
        now = time.monotonic()
        return choose_endpoint(wanted, directory.endpoints, directory.balancer, turn, now, anyone=anyone)

    def may_fall_back(self, wanted: Wanted) -> bool:
        """Whether a model that nobody listed may be asked of anybody."""
        return self.directory.optimistic and bool(wanted.models) and not self.known(wanted)

    def refused(self, endpoint: Endpoint) -> None:
        """A connection was refused: that counts as much as a failed check, and is told as one."""
        before = endpoint.health
        self.directory.refused(endpoint)
        if before is not endpoint.health:
            fields = {"endpoint": endpoint.spec.name, "before": before.value, "now": endpoint.health.value}
            self.gateway.tell("endpoint.changed", fields)

    def known(self, wanted: Wanted) -> bool:
        return self.directory.known(wanted.prefix, wanted.models, wanted.target)

    def nobody(self, wanted: Wanted, model: str) -> Exception:
        known = self.known(wanted)
        local = wanted.prefix in (ANY_OPENAI, EVERY) and bool(self.gateway.models.listed())
        standing = Standings(self.directory.endpoints, local=local)
        error = nobody(wanted, standing, model=model, known=known, retry=self.retry(wanted.prefix))
        if isinstance(error, ModelNotFound):
            self.directory.tallies.missed()
        return error

    def retry(self, prefix: str) -> float:
        """Seconds until the next check of an endpoint that could have answered."""
        now = time.time()
        nexts = [one.checked.next_at - now for one in self.directory.qualifying(prefix) if not one.routable]
        return max(LEAST_RETRY, min(nexts, default=LEAST_RETRY))

    def has_local(self, model: str) -> bool:
        """Whether the built-in engine has the model, or one of those that an alias means."""
        try:
            self.gateway.models.one(model)
        except Exception:  # noqa: BLE001 - whatever it says, it is not there now
            return False
        return True

    def has_default(self) -> bool:
        return Ability.CHAT.value in self.gateway.models.defaults() and bool(self.gateway.models.listed())

    def may_refresh(self, wanted: Wanted) -> bool:
        """Whether a miss is reason enough to read the lists anew: not more often than every few seconds."""
        now = time.monotonic()
        if now - self._refreshed < REFRESH_EVERY:
            return False
        return any(one.health is Health.HEALTHY for one in self.directory.qualifying(wanted.prefix))

    async def refresh(self, wanted: Wanted) -> None:
        self._refreshed = time.monotonic()
        await refresh(list(self.directory.qualifying(wanted.prefix)), REFRESH_TIMEOUT)

    # What becomes of it.

    def settled(self, request: Client) -> None:
        """The answer has ended, one way or another: counted once, told once, explained."""
        record = request.record()
        now = time.monotonic()
        seconds = now - request.started
        self.gateway.metrics.ended("olla" if record.olla else surface_of(record.path), request.status, seconds)
        self._count(request, seconds)
        fields = closing_fields(record, now)
        way = request.way
        if way is not None and way.tries:
            way.read_usage()
            fields["endpoint"] = way.tries[-1][0]
            fields["model"] = way.ran
            fields["prompt_tokens"] = way.usage.prompt_tokens
            fields["completion_tokens"] = way.usage.completion_tokens
        self.gateway.tell("request.ended", fields)
        if self.proxy.explained:
            self._keep(record.request_id, request, fields)

    def _keep(self, request_id: str, request: Client, fields: Mapping[str, object]) -> None:
        way = request.way
        at, balancer = time.time(), self.directory.balancer
        if way is None:
            record = Record(fields, request.address, at, balancer)
        else:
            tries = tuple(way.tries)
            named = (way.model, way.ran, way.routing or ())
            record = Record(fields, request.address, at, balancer, *named, way.choice, tries, way.waited)
        self.explained[request_id] = record
        if len(self.explained) > self.proxy.explained:
            self.explained.popitem(last=False)

    def _count(self, request: Client, seconds: float) -> None:
        way = request.way
        if way is None:
            return
        tallies = self.directory.tallies
        failed = request.status >= 500 or (bool(request.broken) and request.status != CLIENT_LEFT)
        tallies.requests += 1
        tallies.failures += failed
        cost = took(seconds, request.sent, failed=failed, at=time.time())
        tallies.ended.note(cost)
        # A name that nobody listed makes no entry, or anybody could fill the memory with names.
        if way.model and way.tries and way.routing is not None and way.routing[1] == b"routed":
            endpoint = way.tries[-1][0]
            tallies.note_model(way.ran, endpoint, request.address, cost)

    def report(self, request: Client, fault: BaseException) -> None:
        """A bug: the log has more than the caller is told."""
        trace = "".join(traceback.format_exception(fault))
        fields = {"id": request.request_id, "error": type(fault).__name__, "trace": trace}
        self.gateway.tell("request.failed", fields)


@dataclass(frozen=True, slots=True)
class Record:
    """What is kept of a request to explain it; made into words only when somebody asks."""

    closing: Mapping[str, object]
    address: str
    at: float
    balancer: str
    model: str = ""
    ran: str = ""
    routing: tuple[bytes, ...] = ()
    choice: Choice[Endpoint] | None = None
    tries: tuple[tuple[str, str, float], ...] = ()
    waited: float = 0.0

    def told(self) -> Mapping[str, object]:
        """Who called, which rule chose what and why the others were passed over, the tries, the waits."""
        closing = self.closing
        shared = ("id", "method", "path", "caller", "key", "status", "seconds", "bytes")
        record: dict[str, object] = {name: closing[name] for name in shared}
        record |= {"at": self.at, "address": self.address, "broken": closing.get("broken", "")}
        if self.choice is None:
            return record
        return record | {
            "model": self.model,
            "ran": self.ran,
            "balancer": self.balancer,
            "routing": [part.decode() for part in self.routing],
            "candidates": [one.spec.name for one in self.choice.ranked],
            "passed_over": dict(self.choice.passed),
            "tries": list(self.tries),
            "waited": self.waited,
            "prompt_tokens": closing.get("prompt_tokens", 0),
            "completion_tokens": closing.get("completion_tokens", 0),
        }


def figures_of(directory: Directory) -> GatewayFigures:
    """For the metrics."""
    endpoints = [
        EndpointFigures(
            name=one.spec.name,
            up=one.routable,
            in_flight=one.in_flight,
            requests=one.tally.requests,
            failures=one.tally.failures,
            buckets=one.tally.cumulated(),
            seconds=one.tally.total,
        )
        for one in directory.endpoints
    ]
    models = {name: model.own.requests for name, model in directory.tallies.models.items()}
    return GatewayFigures(directory.tallies.requests, directory.tallies.failures, endpoints, models)
