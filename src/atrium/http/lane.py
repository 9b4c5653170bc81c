"""What all relayed requests share: the directory, admission, limits, time, and the book of what happened to each."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from atrium.core.answers import NO_USAGE, Usage
from atrium.core.endpoints import Health, RunnerStatus
from atrium.core.errors import ModelLoading, ModelNotFound
from atrium.core.events import Tell
from atrium.core.kinds import ANY_OPENAI, EVERY
from atrium.core.models import Ability
from atrium.core.usage import UsageRecord
from atrium.decisions.choose_endpoint import Choice, Standings, Wanted, choose_endpoint, nobody
from atrium.decisions.choose_overflow import Overflows
from atrium.decisions.client_address import Network, is_trusted
from atrium.dialects.peek import Call
from atrium.http.admission import Admission
from atrium.http.asked import EXTENSIBLE, OLLAMA_PATHS, SHORTENED, TRANSLATED, Asked, Place, native_dialect
from atrium.http.edge import Exchange, closing_fields
from atrium.http.explained import RelayedRecord, TranslatedRecord, relayed_record, translated_record
from atrium.http.limits import Limiter
from atrium.http.local_record import LocalRecord, has_failed
from atrium.http.metering import NOWHERE, UNCLAIMED, Ran, has_counted, record_of
from atrium.http.middleware.doors import HostCheck
from atrium.http.parties import Client, Way
from atrium.http.route import Route
from atrium.relay.directory import Directory, Endpoint
from atrium.relay.discover import refresh
from atrium.relay.sessions import Sessions
from atrium.relay.tally import took
from atrium.services.list_models import ListModels
from atrium.services.metered import CHARACTERS
from atrium.settings.tree import Settings
from atrium.telemetry.gateway_metrics import EndpointFigures, GatewayFigures
from atrium.telemetry.metrics import Metrics

REFRESH_EVERY = 5.0
REFRESH_TIMEOUT = 2.0
LEAST_RETRY = 1.0
MOST_ROUTES = 1024
LONGEST_ROUTE = 512
"""Bytes that a client may have a route known by; what is longer is worked out each time."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """What the lane is built from."""

    directory: Directory
    admission: Admission
    limiter: Limiter
    hosts: HostCheck
    models: ListModels
    metrics: Metrics
    tell: Tell
    running: Callable[[], Sequence[RunnerStatus]]
    """Runners of local models."""
    note: Callable[[UsageRecord], None]
    networks: tuple[Network, ...] = ()


class Lane:
    def __init__(self, gateway: Gateway, settings: Settings) -> None:
        self.gateway = gateway
        self.directory = gateway.directory
        self.settings = settings
        self.proxy = settings.proxy
        self.strategy = settings.routing.encode()
        sticky = settings.sticky_sessions
        self._overflows = Overflows(settings.models.context_policy, settings.models.context_policies)
        self.sessions = Sessions(sticky.max_sessions, sticky.idle_ttl_seconds) if sticky.enabled else None
        self.active: set[Client] = set()
        self.buffered = 0
        """Bytes of bodies that are held in memory."""
        self.explained: OrderedDict[str, RelayedRecord | TranslatedRecord | LocalRecord] = OrderedDict()
        self._tells_ends = settings.telemetry.level in ("debug", "info")
        """Whether anybody hears of requests that ended: making the words costs as much as choosing an endpoint."""
        self._routes: dict[tuple[Place, bytes, str], Route] = {}
        """They stay right while the directory stays as it is."""
        self._edition = -1
        self._timer: asyncio.TimerHandle | None = None
        self._refreshed = -REFRESH_EVERY
        shortest = min(self.proxy.header_timeout, self.proxy.idle_timeout) or 1.0
        self._tick = min(1.0, shortest / 4)

    def extends(self, asked: Asked, call: Call) -> bool:
        """Whether a chat stands on stores, may be shortened, or has files that not every endpoint of its model takes:
        there is more to do than to relay it.

        On Ollama's paths no name is no model, which the application says in Ollama's words; and where a chat that does
        not fit is to be refused it has to be said, since an endpoint of that dialect cuts unless it is told not to.
        """
        if asked.rest in OLLAMA_PATHS and not call.model:
            return True
        if asked.rest not in SHORTENED:
            return False
        policy = self._overflows.said(call.model)
        if b"x-atrium-truncate" in asked.first or policy not in ("usual", "refuse"):
            return True
        if asked.rest not in EXTENSIBLE:
            return policy == "refuse"
        return call.extended or (call.files and not self._take_files(self.route(asked, call.model).wanted))

    def _take_files(self, wanted: Wanted) -> bool:
        listing = self.directory.listing(wanted.prefix, wanted.models, wanted.target)
        return all(one.spec.kind.takes_files for one in listing)

    def apply(self, settings: Settings) -> None:
        """From the next request on."""
        self.settings = settings
        self.directory.aliases = settings.model_aliases
        self.gateway.limiter.apply(settings.limits)
        self._routes.clear()

    # Who comes in.

    def takes(self, prefix: str) -> bool:
        """Outside `/olla`: only when there is an endpoint that could answer."""
        return any(True for _ in self.directory.qualifying(prefix))

    def trusts(self, peer: str) -> bool:
        return bool(self.gateway.networks) and is_trusted(peer, self.gateway.networks)

    def joined(self, request: Client) -> None:
        self.active.add(request)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._tick, self._look)

    def left(self, request: Client) -> None:
        self.active.discard(request)

    def handed_over(self, request: Client) -> None:
        """The application goes on with it, and counts it anew."""
        self.left(request)
        request.claim.settle(0, 0)
        self.directory.tallies.requests += request.asked.olla
        self.gateway.metrics.withdrawn()

    def _look(self) -> None:
        """One timer for all requests under way."""
        self._timer = None
        now = time.monotonic()
        for request in list(self.active):
            request.look(now)
        if self.active:
            self._timer = asyncio.get_running_loop().call_later(self._tick, self._look)

    # Where it goes.

    def route(self, asked: Asked, model: str) -> Route:
        if self._edition != self.directory.edition.number:
            self._edition = self.directory.edition.number
            self._routes.clear()
        key = (asked.place, asked.target, model)
        known = self._routes.get(key)
        if known is None:
            known = Route(self._wanted(asked, model))
            if len(self._routes) >= MOST_ROUTES:
                self._routes.clear()
            if len(asked.path) + len(asked.target) + len(model) <= LONGEST_ROUTE:
                self._routes[key] = known
        return known

    def _wanted(self, asked: Asked, model: str) -> Wanted:
        target = asked.target.decode("latin-1")
        names = self.names_of(model)
        dialect = native_dialect(asked.rest)
        if "/" in model and not self.directory.known(asked.prefix, names) and (pinned := self.directory.pinned(model)):
            return Wanted(asked.prefix, (pinned[1].casefold(),), pinned[0], dialect)
        return Wanted(asked.prefix, names, target, dialect)

    def names_of(self, model: str) -> tuple[str, ...]:
        """Folded names that will do for what was asked."""
        if not model:
            return ()
        targets = self.settings.model_aliases.get(model)
        return tuple(name.casefold() for name in targets) if targets else (model.casefold(),)

    def choose(self, route: Route) -> Choice[Endpoint]:
        choice = route.choice
        if choice is None:
            choice = self._decide(route.wanted, anyone=False)
            # With one candidate neither turns nor load matter; with a circuit open the time does.
            if len(choice.ranked) == 1 and not self.directory.edition.troubled:
                route.choice = choice
        return choice

    def choose_anyone(self, wanted: Wanted) -> Choice[Endpoint]:
        """Whether or not they list the model."""
        return self._decide(wanted, anyone=True)

    def _decide(self, wanted: Wanted, *, anyone: bool) -> Choice[Endpoint]:
        directory = self.directory
        turn = directory.turn(wanted.prefix, wanted.models[0] if wanted.models else "")
        now = time.monotonic()
        return choose_endpoint(wanted, directory.endpoints, directory.balancing, turn, now, anyone=anyone)

    def may_fall_back(self, wanted: Wanted) -> bool:
        """Whether a model that nobody listed may be asked of anybody."""
        return self.directory.optimistic and bool(wanted.models) and not self.known(wanted)

    def known(self, wanted: Wanted) -> bool:
        return self.directory.known(wanted.prefix, wanted.models, wanted.target)

    def nobody(self, wanted: Wanted, model: str) -> Exception:
        """What is told when nobody can be asked; of a model that somebody has it is counted as a miss."""
        known = self.known(wanted)
        if known:
            self.directory.missed(wanted.prefix, wanted.models, wanted.target)
        local = wanted.prefix in (ANY_OPENAI, EVERY) and bool(self.gateway.models.listed())
        standing = Standings(self.directory.endpoints, local=local)
        return nobody(wanted, standing, model=model, known=known, retry=self.retry(wanted.prefix))

    def retry(self, prefix: str) -> float:
        """Seconds until the next check of an endpoint that could have answered."""
        now = time.time()
        nexts = [one.checked.next_at - now for one in self.directory.qualifying(prefix) if not one.routable]
        return max(LEAST_RETRY, min(nexts, default=LEAST_RETRY))

    def has_local(self, model: str) -> bool:
        """Whether the built-in engine has the model, or one of those that an alias means."""
        try:
            self.gateway.models.one(model)
        except (ModelNotFound, ModelLoading):
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
        way = request.way
        now, at = time.monotonic(), time.time()
        seconds = now - request.started
        self.gateway.metrics.ended(request.asked.place.surface, request.status, seconds)
        if way is not None:
            way.read_usage()
            self._count(request, way, seconds, at)
        self._meter(request, way, seconds, at)
        if self._tells_ends:
            self._tell_end(request, way, now)
        if self.proxy.explained:
            caller = request.caller
            who = (caller.name, caller.key_id) if caller else (None, None)
            self._remember(request.request_id, relayed_record(request, who, (seconds, at), self.directory.balancer))

    def _tell_end(self, request: Client, way: Way | None, now: float) -> None:
        fields = closing_fields(request.record(), now)
        if way is not None and way.tries:
            fields["endpoint"] = way.tries[-1][0]
            fields["model"] = way.ran
            fields["prompt_tokens"] = way.usage.prompt_tokens
            fields["completion_tokens"] = way.usage.completion_tokens
        self.gateway.tell("request.ended", fields)

    def _meter(self, request: Client, way: Way | None, seconds: float, at: float) -> None:
        """What it held of its caller's quotas is settled, and what it used noted."""
        ran = NOWHERE
        if way is not None and way.tries:
            exact = way.usage is not NO_USAGE or not way.model or not has_counted(request.status)
            ran = Ran(way.tries[-1][0], way.listed, way.usage if exact else estimate(way), exact)
        if request.claim is not UNCLAIMED:
            request.claim.settle(request.status, ran.usage.prompt_tokens + ran.usage.completion_tokens)
        place = request.asked.place
        if request.caller is not None and place.door is not None:
            self.gateway.note(record_of(request.caller, place.door, (place.method, request.status), (at, seconds), ran))

    def _count(self, request: Client, way: Way, seconds: float, at: float) -> None:
        tallies = self.directory.tallies
        failed = has_failed(request.status, broken=bool(request.broken))
        tallies.requests += 1
        tallies.failures += failed
        cost = took(seconds, request.sent, failed=failed, at=at)
        tallies.ended.note(cost)
        # A name that nobody listed makes no entry, or anybody could fill the memory with names.
        if way.model and way.tries and way.routing is not None:
            if way.routing[1] == b"routed":
                tallies.note_model(way.listed, way.tries[-1][0], request.address, cost)
            else:
                tallies.note_fallback(way.listed)

    def keep(self, request_id: str, record: LocalRecord) -> None:
        """An answer of the built-in engine's: counted and explained like others."""
        record.count(self.directory.tallies)
        self._remember(request_id, record)

    def _remember(self, request_id: str, record: RelayedRecord | TranslatedRecord | LocalRecord) -> None:
        """The oldest is forgotten at the bound."""
        self.explained[request_id] = record
        if len(self.explained) > self.proxy.explained:
            self.explained.popitem(last=False)

    def note_translated(self, exchange: Exchange, seconds: float) -> None:
        """A request has ended that an endpoint was asked for in another dialect: counted and explained like others."""
        tallies = self.directory.tallies
        failed = has_failed(exchange.status, broken=bool(exchange.broken))
        tallies.requests += not exchange.olla
        tallies.failures += failed
        tallies.ended.note(took(seconds, exchange.sent, failed=failed, at=time.time()))
        if self.proxy.explained:
            fields = closing_fields(exchange, exchange.started + seconds)
            self._remember(
                exchange.request_id, translated_record(exchange, fields, time.time(), self.directory.balancer)
            )

    def translates(self, asked: Asked, wanted: Wanted) -> bool:
        """Whether an endpoint that speaks another dialect than the path's could answer."""
        if asked.rest not in TRANSLATED or (asked.olla and asked.prefix not in (ANY_OPENAI, EVERY)):
            return False
        return any(
            one.routable and wanted.target in ("", one.spec.name) and any(one.has(name) for name in wanted.models)
            for one in self.directory.endpoints
        )

    def report(self, request: Client, fault: BaseException) -> None:
        """A bug: the log has more than the caller is told."""
        trace = "".join(traceback.format_exception(fault))
        fields = {"id": request.request_id, "error": type(fault).__name__, "trace": trace}
        self.gateway.tell("request.failed", fields)


def estimate(way: Way) -> Usage:
    """Where the endpoint told nothing: about as many as there were bytes to read, and pieces that came."""
    return Usage(way.asked_bytes // CHARACTERS, way.pieces)


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
    models = {name: model.requests for name, model in directory.tallies.models.items()}
    return GatewayFigures(directory.tallies.requests, directory.tallies.failures, endpoints, models)
