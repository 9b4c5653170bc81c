"""The map: middleware in order, then surfaces. Nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from atrium import __version__
from atrium.core.errors import AtriumError, InvalidJson, InvalidValue, Unprocessable
from atrium.core.events import Tell
from atrium.core.usage import UsageRecord
from atrium.decisions.client_address import read_networks
from atrium.decisions.doors import door_rules
from atrium.dialects.bounds import RequestBounds
from atrium.http.admission import Admission
from atrium.http.edge import LOLLMS_SURFACES, surface_of
from atrium.http.front import Front
from atrium.http.lane import Gateway, Lane, figures_of
from atrium.http.limits import Limiter
from atrium.http.middleware.audit import Audit
from atrium.http.middleware.cors import CrossOrigin
from atrium.http.middleware.doors import HostCheck, Identity, RateCheck, SizeCheck
from atrium.http.middleware.faults import Faults
from atrium.http.middleware.methods import Methods
from atrium.http.middleware.record import Books, Record
from atrium.http.reading import BodyBounds
from atrium.http.reload import Reload, Source
from atrium.http.scope import mark_control
from atrium.http.surfaces import (
    accounts,
    admin,
    gateway_admin,
    internal,
    kept_chats,
    lollms,
    long_context,
    olla,
    ollama,
    ollama_changes,
    ollama_models,
    openai,
    people_admin,
    quotas_admin,
    status,
    stores,
    usage,
)
from atrium.http.uploads import FormBounds
from atrium.relay.roster import Roster
from atrium.services.promises import Services
from atrium.settings.tree import Settings
from atrium.telemetry.gateway_metrics import GatewayCollector
from atrium.telemetry.metrics import Metrics

SMALL_BODY = 64 * 1024
"""Bytes of a login."""


@dataclass(frozen=True, slots=True)
class Sight:
    """How the edge tells what happens, and whether new requests are welcome."""

    tell: Tell
    metrics: Metrics
    note: Callable[[UsageRecord], None]
    """Takes what was used, without a wait."""
    ready: Callable[[], bool]
    scratch: Path
    """Where files lie while they come in."""


@dataclass(frozen=True, slots=True)
class Entrance:
    """Who may come in: what both lanes ask."""

    admission: Admission
    limiter: Limiter


def build_front(services: Services, settings: Settings, sight: Sight, roster: Roster, source: Source) -> Front:
    """The application, and the lane that shares its entrance."""
    directory = roster.directory
    networks = read_networks(settings.trusted_proxies)
    rules = door_rules(settings.auth.services, required=settings.auth.required)
    admission = Admission(services.check_key, rules, services.meter, services.audit)
    entrance = Entrance(admission, Limiter(settings, networks))
    gateway = Gateway(
        directory,
        entrance.admission,
        entrance.limiter,
        HostCheck(nothing, settings.server.host),
        services.list_models,
        sight.metrics,
        sight.tell,
        services.engines.running,
        sight.note,
        networks,
    )
    sight.metrics.register(GatewayCollector(lambda: figures_of(directory)))
    lane = Lane(gateway, settings)
    api = build_api(services, settings, sight, lane)
    reload = Reload(source, lane, roster, sight.tell)
    api.include_router(gateway_admin.router(lane, roster, reload))
    return Front(build_app(Audit(Methods(api), services.audit), settings, sight, entrance, lane), lane, reload)


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that is never asked."""


def build_app(api: ASGIApp, settings: Settings, sight: Sight, entrance: Entrance, lane: Lane) -> ASGIApp:
    """The ASGI application: the last middleware here is the outermost."""
    app: ASGIApp = Identity(api, entrance.admission)
    app = SizeCheck(app, entrance.limiter)
    app = HostCheck(app, settings.server.host)
    app = RateCheck(app, entrance.limiter)
    app = Faults(app, sight.tell)
    app = CrossOrigin(app, settings.cors)
    return Record(app, sight.tell, sight.metrics, Books(lane.note_translated, lane.keep, sight.note))


def build_api(services: Services, settings: Settings, sight: Sight, lane: Lane) -> FastAPI:
    limits = settings.limits
    api = FastAPI(
        title="Atrium", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False, max_body_size=None
    )
    bounds = openai.OpenAiBounds(
        BodyBounds(limits.max_body, limits.body_timeout),
        RequestBounds(
            depth=limits.json_depth,
            items=limits.json_items,
            messages=limits.messages,
            tools=limits.tools,
            inputs=limits.inputs,
        ),
    )
    api.include_router(openai.router(services, bounds))
    api.include_router(kept_chats.router(services.keep_completions, bounds.body, bounds.request))
    api.include_router(lollms.router(services, bounds))
    api.include_router(long_context.router(services, bounds))
    api.include_router(ollama.router(services, bounds))
    api.include_router(ollama_models.router(services, bounds))
    api.include_router(ollama_changes.router(services, bounds))
    form = FormBounds(
        bounds.body, settings.files.max_upload, settings.files.max_files, settings.files.spool, settings.files.max_field
    )
    api.include_router(stores.router(services.documents, stores.StoreBounds(form, bounds.request, sight.scratch)))
    api.include_router(internal.router(sight.metrics, sight.ready))
    api.include_router(olla.router(lane))
    api.include_router(status.router(lane))
    api.include_router(accounts.router(services, BodyBounds(SMALL_BODY, limits.body_timeout), lane.trusts))
    api.include_router(admin.router(services))
    api.include_router(people_admin.router(services))
    api.include_router(quotas_admin.router(services))
    api.include_router(usage.router(services, lambda: lane.settings))
    for kind in (Exception, 404, 405):
        api.add_exception_handler(kind, pass_on)
    api.add_exception_handler(400, refuse_body)
    api.add_exception_handler(RequestValidationError, refuse_field)
    return api


async def pass_on(_: Request, error: Exception) -> Response:
    """`Faults` is the one place that answers errors."""
    raise error


async def refuse_body(_: Request, error: Exception) -> Response:
    """What could not be read or parsed at all, which the router says in words of its own."""
    why = error.__cause__
    raise why if isinstance(why, AtriumError) else InvalidJson("The body cannot be read as JSON") from None


async def refuse_field(request: Request, error: Exception) -> Response:
    """422 where the contract of a path says so, else 400; what is not JSON at all is 400 everywhere."""
    if not isinstance(error, RequestValidationError):
        raise error
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        raise InvalidJson("The body is not JSON")
    place = ".".join(str(part) for part in first["loc"] if part not in ("body", "path", "query"))
    kind = Unprocessable if surface_of(request.url.path) in LOLLMS_SURFACES else InvalidValue
    raise kind(f"'{place}': {first['msg']}" if place else str(first["msg"]), param=place or None)


def control_app(app: ASGIApp) -> ASGIApp:
    """The same application for the control socket: every caller there is the administrator."""

    async def marked(scope: Scope, receive: Receive, send: Send) -> None:
        await app(mark_control(scope) if scope["type"] == "http" else scope, receive, send)

    return marked
