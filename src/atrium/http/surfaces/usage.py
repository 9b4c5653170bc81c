"""What was used: for the caller, and for administrators of everybody. Source: contract `lollms.md`, section 11."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from atrium.core.errors import NotFound, Unprocessable
from atrium.core.people import ANONYMOUS
from atrium.core.usage import Span, Sums
from atrium.decisions.doors import door_rules
from atrium.http.moments import Moment, whole_hour
from atrium.http.scope import exchange_of
from atrium.services.promises import Services
from atrium.services.read_usage import Names, Report
from atrium.settings.tree import Settings

DOORS = ("openai", "ollama", "lollms")
COLUMNS = ("hour", "door", "user", "key", "model", "requests", "failures", "prompt_tokens", "completion_tokens")
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How a text begins that a spreadsheet would take for a formula."""
LARGEST_ID = 2**31 - 1


class Wanted(BaseModel):
    """Which usage is asked for. Hours are whole and days begin at midnight, in UTC."""

    days: Annotated[int, Field(ge=1, le=3660)] = 30
    """So many, the last one among them; unless `since` says otherwise."""
    since: Moment | None = None
    until: Moment | None = None
    step: Literal["hour", "day"] = "day"
    """Of the series; steps in which nothing was used are left out."""
    key_id: Annotated[int | None, Field(ge=0, le=LARGEST_ID)] = None
    model: Annotated[str | None, Field(max_length=200)] = None
    format: Literal["json", "csv"] = "json"

    def span(self, user_id: int | None) -> Span:
        """Raises Unprocessable."""
        now = datetime.now(UTC)
        end = whole_hour(self.until or now, up=True)
        midnight = min(end, now).replace(hour=0, minute=0, second=0, microsecond=0)
        begin = whole_hour(self.since) if self.since else midnight - timedelta(days=self.days - 1)
        if begin >= end:
            raise Unprocessable("'since' must be before 'until'", param="since")
        return Span(begin, end, user_id, self.key_id, self.model)


class WantedOfAll(Wanted):
    user: str | None = None


class SumsView(BaseModel):
    requests: int
    failures: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    seconds: float


class StepView(SumsView):
    at: datetime


class UserShare(SumsView):
    user_id: int
    username: str


class KeyShare(SumsView):
    key_id: int
    key_prefix: str | None
    alias: str | None
    username: str | None


class ModelShare(SumsView):
    model: str


class DoorShare(SumsView):
    door: str


class OwnUsage(BaseModel):
    since: datetime
    until: datetime
    totals: SumsView
    series: list[StepView]
    keys: list[KeyShare]
    models: list[ModelShare]
    doors: list[DoorShare]


class AllUsage(OwnUsage):
    users: list[UserShare]


def router(services: Services, settings: Callable[[], Settings]) -> APIRouter:
    routes = APIRouter()
    routes.include_router(usage_routes(services))
    routes.include_router(dashboard_routes(services, settings))
    return routes


def usage_routes(services: Services) -> APIRouter:
    routes = APIRouter(tags=["usage"])

    @routes.get("/api/usage", response_model=OwnUsage)
    async def own(request: Request, wanted: Annotated[Wanted, Query()]) -> Response | OwnUsage:
        """What the caller has used: in all, in steps, by key and by model; or every hour as CSV."""
        caller, names = exchange_of(request.scope).caller or ANONYMOUS, await services.usage.names()
        span = wanted.span(caller.user_id or 0)
        if wanted.format == "csv":
            return as_csv(services, span, names)
        report = await services.usage.report(span, daily=wanted.step == "day")
        return OwnUsage(**shares(report, span, names))

    @routes.get("/api/admin/usage", response_model=AllUsage)
    async def everybodys(wanted: Annotated[WantedOfAll, Query()]) -> Response | AllUsage:
        """What everybody or one user has used: in all, in steps, by user, key and model; or every hour as CSV."""
        names = await services.usage.names()
        span = wanted.span(None if wanted.user is None else id_of(wanted.user, names))
        if wanted.format == "csv":
            return as_csv(services, span, names)
        report = await services.usage.report(span, daily=wanted.step == "day")
        users = [UserShare(user_id=number, username=names.user(number), **view(sums)) for number, sums in report.users]
        return AllUsage(users=users, **shares(report, span, names))

    return routes


def dashboard_routes(services: Services, settings: Callable[[], Settings]) -> APIRouter:
    routes = APIRouter(prefix="/api/admin/services", tags=["admin"])

    @routes.get("/dashboard")
    async def dashboard() -> dict[str, object]:
        """Hits of each door since they were last reset, and the doors' rules."""
        hits, names = await services.usage.doors(), await services.usage.names()
        told = {
            door: {
                "total_hits": sum(one.hits for one in hits if one.door == door),
                "user_count": sum(one.door == door for one in hits),
                "users": [
                    {"username": names.user(one.user_id), "hits": one.hits, "last_at": one.last_at}
                    for one in hits
                    if one.door == door
                ],
            }
            for door in DOORS
        }
        return {"usage": told, "settings": rules_of(settings())}

    @routes.post("/reset-usage")
    async def reset() -> dict[str, str]:
        """Count hits from zero again; what was used stays known."""
        await services.usage.reset_doors()
        return {"message": "The usage of all services was reset"}

    return routes


def rules_of(settings: Settings) -> dict[str, bool | int]:
    rules = door_rules(settings.auth.services, required=settings.auth.required)
    rate = settings.limits.per_ip_per_minute
    return {
        "openai_api_service_enabled": rules.openai.enabled,
        "openai_api_require_key": rules.openai.needs_key,
        "ollama_service_enabled": rules.ollama.enabled,
        "ollama_require_key": rules.ollama.needs_key,
        "lollms_services_enabled": rules.lollms.enabled,
        "lollms_services_require_key": rules.lollms.needs_key,
        "rate_limit_enabled": rate > 0 or settings.limits.global_per_minute > 0,
        "rate_limit_max_requests": rate,
        "rate_limit_window_seconds": 60,
    }


def id_of(user: str, names: Names) -> int:
    """Raises NotFound."""
    for number, name in (*names.users.items(), (0, ANONYMOUS.name)):
        if name.casefold() == user.casefold():
            return number
    raise NotFound(f"There is no user '{user[:64]}'", param="user")


def view(sums: Sums) -> dict[str, Any]:
    return {
        "requests": sums.requests,
        "failures": sums.failures,
        "prompt_tokens": sums.prompt_tokens,
        "completion_tokens": sums.completion_tokens,
        "total_tokens": sums.prompt_tokens + sums.completion_tokens,
        "seconds": round(sums.seconds, 3),
    }


def shares(report: Report, span: Span, names: Names) -> dict[str, Any]:
    return {
        "since": span.since,
        "until": span.until,
        "totals": view(report.totals),
        "series": [{"at": at, **view(sums)} for at, sums in report.series],
        "keys": [{**key_of(number, names), **view(sums)} for number, sums in report.keys],
        "models": [{"model": model, **view(sums)} for model, sums in report.models],
        "doors": [{"door": door, **view(sums)} for door, sums in report.doors],
    }


def key_of(number: int, names: Names) -> dict[str, object]:
    key = names.keys.get(number)
    return {
        "key_id": number,
        "key_prefix": key.prefix if key else None,
        "alias": key.alias if key else None,
        "username": names.user(key.user_id) if key else None,
    }


def as_csv(services: Services, span: Span, names: Names) -> StreamingResponse:
    headers = {"Content-Disposition": 'attachment; filename="usage.csv"'}
    return StreamingResponse(lines_of(services, span, names), media_type="text/csv", headers=headers)


async def lines_of(services: Services, span: Span, names: Names) -> AsyncGenerator[str]:
    yield line_of(COLUMNS)
    async for row in services.usage.export(span):
        key = names.keys.get(row.key_id)
        who = (names.user(row.user_id), key.prefix if key else str(row.key_id or ""))
        sums = row.sums
        counts = (sums.requests, sums.failures, sums.prompt_tokens, sums.completion_tokens)
        yield line_of((row.hour.isoformat(), row.door, *who, row.model, *counts))


def line_of(cells: tuple[object, ...]) -> str:
    page = io.StringIO()
    csv.writer(page).writerow([f"'{cell}" if str(cell).startswith(FORMULA) else cell for cell in cells])
    return page.getvalue()
