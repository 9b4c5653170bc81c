"""What all relayed requests share: the directory, admission, limits, time, and the book of what happened to each."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from atrium.core.answers import NO_USAGE, Usage
from atrium.core.endpoints import Health, RunnerStatus
from atrium.core.errors import ModelLoading, ModelNotFound
from atrium.core.kinds import ANY_OPENAI, EVERY
from atrium.core.models import Ability
from atrium.core.usage import UsageRecord
from atrium.decisions.choose_endpoint import Choice, Standings, Wanted, choose_endpoint, nobody
from atrium.decisions.client_address import Network, is_trusted
from atrium.decisions.doors import door_of
from atrium.dialects.peek import Call
from atrium.http.admission import Admission
from atrium.http.asked import EXTENSIBLE, TRANSLATED, Asked, native_dialect
from atrium.http.edge import Exchange, closing_fields
from atrium.http.explained import TranslatedRecord, translated_record
from atrium.http.limits import Limiter
from atrium.http.local_record import LocalRecord
from atrium.http.metering import GATEWAY, NOWHERE, UNCLAIMED, Ran, record_of
from atrium.http.middleware.doors import HostCheck
from atrium.http.parties import Client, Way
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
CLIENT_LEFT = 499
MOST_CHOSEN = 1024


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
        self.sessions = Sessions(sticky.max_sessions, sticky.idle_ttl_seconds) if sticky.enabled else None
        self.active: set[Client] = set()
        self.buffered = 0
        """Bytes of bodies that are held in memory."""
        self.explained: OrderedDict[str, Record | TranslatedRecord | LocalRecord] = OrderedDict()
        self._tells_ends = settings.telemetry.level in ("debug", "info")
        """Whether anybody hears of requests that ended: making the words costs as much as choosing an endpoint."""
        self._chosen: dict[Wanted, Choice[Endpoint]] = {}
        """Choices that stay right while the directory stays as it is."""
        self._edition = -1
        self._timer: asyncio.TimerHandle | None = None
        self._refreshed = -REFRESH_EVERY
        shortest = min(self.proxy.header_timeout, self.proxy.idle_timeout) or 1.0
        self._tick = min(1.0, shortest / 4)

    def extends(self, asked: Asked, call: Call) -> bool:
        """Whether a chat stands on stores, or may be shortened: there is more to do than to relay it."""
        if asked.rest not in EXTENSIBLE:
            return False
        own = self.settings.models
        policy = own.context_policies.get(call.model, own.context_policy)
        return call.extended or policy != "refuse" or b"x-atrium-truncate" in asked.first

    def apply(self, settings: Settings) -> None:
        """From the next request on."""
        self.settings = settings
        self.directory.aliases = settings.model_aliases
        self.gateway.limiter.apply(settings.limits)

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

    def wanted(self, asked: Asked, model: str) -> Wanted:
        target = asked.first.get(b"x-olla-target", b"").decode("latin-1")
        names = self.names_of(model)
        dialect = native_dialect(asked.rest)
        if "/" in model and not self.directory.known(asked.prefix, names) and (pinned := self.pinned(model)):
            return Wanted(asked.prefix, (pinned[1].casefold(),), pinned[0], dialect)
        return Wanted(asked.prefix, names, target, dialect)

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
        directory, chosen = self.directory, self._chosen
        if self._edition != directory.edition.number:
            self._edition = directory.edition.number
            chosen.clear()
        known = None if anyone else chosen.get(wanted)
        if known is None:
            known = self._decide(wanted, anyone=anyone)
            # With one candidate neither turns nor load matter; with a circuit open the time does.
            lasts = len(known.ranked) == 1 and not directory.edition.troubled and not anyone
            if lasts and len(chosen) < MOST_CHOSEN:
                chosen[wanted] = known
        return known

    def _decide(self, wanted: Wanted, *, anyone: bool) -> Choice[Endpoint]:
        directory = self.directory
        turn = directory.turn(wanted.prefix, wanted.models[0] if wanted.models else "")
        now = time.monotonic()
        return choose_endpoint(wanted, directory.endpoints, directory.balancing, turn, now, anyone=anyone)

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
        asked, way = request.asked, request.way
        now = time.monotonic()
        seconds = now - request.started
        self.gateway.metrics.ended(asked.place.surface, request.status, seconds)
        if way is not None:
            way.read_usage()
            self._count(request, way, seconds)
        self._meter(request, way, seconds)
        if self._tells_ends:
            self._tell_end(request, way, now)
        if self.proxy.explained:
            self._keep(request, way, seconds)

    def _tell_end(self, request: Client, way: Way | None, now: float) -> None:
        fields = closing_fields(request.record(), now)
        if way is not None and way.tries:
            fields["endpoint"] = way.tries[-1][0]
            fields["model"] = way.ran
            fields["prompt_tokens"] = way.usage.prompt_tokens
            fields["completion_tokens"] = way.usage.completion_tokens
        self.gateway.tell("request.ended", fields)

    def _keep(self, request: Client, way: Way | None, seconds: float) -> None:
        explained = self.explained
        asked, caller = request.asked, request.caller
        explained[request.request_id] = Record(
            (request.request_id, asked.method, asked.path, request.address, self.directory.balancer),
            (caller.name, caller.key_id) if caller else (None, None),
            (request.status, request.sent, request.broken, seconds, time.time()),
            None if way is None else (way.model, way.ran, way.routing, way.choice, way.tries, way.waited, way.usage),
        )
        if len(explained) > self.proxy.explained:
            explained.popitem(last=False)

    def _meter(self, request: Client, way: Way | None, seconds: float) -> None:
        """What it held of its caller's quotas is settled, and what it used noted."""
        ran = NOWHERE
        if way is not None and way.tries:
            exact = way.usage is not NO_USAGE or not way.model or request.status >= 400
            ran = Ran(way.tries[-1][0], way.ran, way.usage if exact else estimate(way), exact)
        if request.claim is not UNCLAIMED:
            request.claim.settle(request.status, ran.usage.prompt_tokens + ran.usage.completion_tokens)
        place = request.asked.place
        door = GATEWAY if place.olla else door_of(place.path)
        if request.caller is not None and door is not None:
            self.gateway.note(record_of(request.caller, door, (place.method, request.status), seconds, ran))

    def _count(self, request: Client, way: Way, seconds: float) -> None:
        tallies = self.directory.tallies
        failed = request.status >= 500 or (bool(request.broken) and request.status != CLIENT_LEFT)
        tallies.requests += 1
        tallies.failures += failed
        cost = took(seconds, request.sent, failed=failed, at=time.time())
        tallies.ended.note(cost)
        # A name that nobody listed makes no entry, or anybody could fill the memory with names.
        if way.model and way.tries and way.routing is not None and way.routing[1] == b"routed":
            tallies.note_model(way.ran, way.tries[-1][0], request.address, cost)

    def keep(self, request_id: str, record: LocalRecord) -> None:
        """The oldest is forgotten at the bound."""
        record.count(self.directory.tallies)
        self.explained[request_id] = record
        if len(self.explained) > self.proxy.explained:
            self.explained.popitem(last=False)

    def note_translated(self, exchange: Exchange, seconds: float) -> None:
        """A request has ended that an endpoint was asked for in another dialect: counted and explained like others."""
        tallies = self.directory.tallies
        failed = exchange.status >= 500 or (bool(exchange.broken) and exchange.status != CLIENT_LEFT)
        tallies.requests += not exchange.olla
        tallies.failures += failed
        tallies.ended.note(took(seconds, exchange.sent, failed=failed, at=time.time()))
        if self.proxy.explained:
            fields = closing_fields(exchange, exchange.started + seconds)
            record = translated_record(exchange, fields, time.time(), self.directory.balancer)
            self.explained[exchange.request_id] = record
            if len(self.explained) > self.proxy.explained:
                self.explained.popitem(last=False)

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


class Record(msgspec.Struct, frozen=True, gc=False):
    """What is kept of a request to explain it; made into words only when somebody asks."""

    asked: tuple[str, bytes, bytes, str, str]
    """Request id, method, path, address, balancer."""
    caller: tuple[str | None, int | None]
    ended: tuple[int, int, str, float, float]
    """Status, bytes, why it broke off, seconds, when."""
    way: (
        tuple[str, str, tuple[bytes, ...] | None, Choice[Endpoint] | None, list[tuple[str, str, float]], float, Usage]
        | None
    )
    """Model as asked for and as run, routing, choice, tries, seconds waited, usage."""

    def told(self) -> Mapping[str, object]:
        """Who called, which rule chose what and why the others were passed over, the tries, the waits."""
        request_id, method, path, address, balancer = self.asked
        status, size, broken, seconds, at = self.ended
        record: dict[str, object] = {
            "id": request_id,
            "method": method.decode("latin-1"),
            "path": path.decode("latin-1"),
            "caller": self.caller[0],
            "key": self.caller[1],
            "status": status,
            "seconds": round(seconds, 6),
            "bytes": size,
            "at": at,
            "address": address,
            "broken": broken,
        }
        if self.way is None:
            return record
        model, ran, routing, choice, tries, waited, usage = self.way
        if choice is None:
            return record
        return record | {
            "model": model,
            "ran": ran,
            "balancer": balancer,
            "routing": [part.decode() for part in routing or ()],
            "candidates": [one.spec.name for one in choice.ranked],
            "passed_over": dict(choice.passed),
            "tries": list(tries),
            "waited": waited,
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
        }


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
    models = {name: model.own.requests for name, model in directory.tallies.models.items()}
    return GatewayFigures(directory.tallies.requests, directory.tallies.failures, endpoints, models)
