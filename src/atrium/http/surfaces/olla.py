"""The gateway's own pages under `/olla`: what one endpoint alone cannot answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, cast

import orjson
from fastapi import APIRouter, Request, Response

from atrium.core.errors import (
    AtriumError,
    InvalidValue,
    MethodNotAllowed,
    ModelNotFound,
    ModelUnavailable,
    NoEndpoint,
    UnknownProvider,
)
from atrium.core.kinds import ANY_OPENAI, EVERY, PREFIXES
from atrium.dialects.olla.listings import TYPES, Unified, entry, listing, read_format, unify
from atrium.http.asked import is_page
from atrium.http.lane import Lane
from atrium.http.surfaces.local_endpoint import sources_of, takes_part
from atrium.relay.ask import ask
from atrium.relay.directory import Endpoint

JSON = "application/json"
RELAYED = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
PAGE_TIMEOUT = 5.0


def router(lane: Lane) -> APIRouter:
    pages = Pages(lane)
    routes = APIRouter(tags=["gateway"])
    get = ["GET", "HEAD"]
    routes.add_api_route("/olla/models", pages.models, methods=get)
    routes.add_api_route("/olla/models/", pages.models, methods=get, include_in_schema=False)
    routes.add_api_route("/olla/models/{name:path}", pages.model, methods=get)
    for prefix in (*PREFIXES, EVERY):
        root = f"/olla/{prefix}"
        for path in ("/v1/models", "/v1/models/"):
            routes.add_api_route(root + path, pages.listed(prefix, "openai"), methods=get, include_in_schema=False)
        routes.add_api_route(root + "/v1/models/{name:path}", pages.one(prefix), methods=get, include_in_schema=False)
    for prefix in PREFIXES["lmstudio"].prefixes:
        for path, form in (("/api/v1/models", "openai"), ("/api/v0/models", "lmstudio")):
            routes.add_api_route(f"/olla/{prefix}{path}", pages.listed(prefix, form), methods=get)
    routes.add_api_route("/olla/ollama/api/tags", pages.listed("ollama", "ollama"), methods=get)
    routes.add_api_route("/olla/ollama/api/ps", pages.running, methods=get)
    routes.add_api_route("/olla/{rest:path}", unknown, methods=[*RELAYED, "TRACE"], include_in_schema=False)
    return routes


async def unknown(rest: str) -> Response:
    """Nobody knows this prefix; or it is asked for with a method that a page of ours, or the lane, does not take."""
    first, _, below = rest.partition("/")
    canonical = EVERY if first.lower() == EVERY else PREFIXES[first.lower()].name if first.lower() in PREFIXES else ""
    if first == "models" or (canonical and is_page(b"GET", canonical, f"/{below}".encode())):
        raise MethodNotAllowed(f"This is a page at /olla/{rest[:100]}", allow=("GET", "HEAD", "OPTIONS"))
    if canonical:
        raise MethodNotAllowed("Of all methods this one is not relayed", allow=(*RELAYED, "OPTIONS"))
    known = ", ".join(sorted(PREFIXES))
    raise UnknownProvider(f"There is no provider '{first[:100]}'", hint=f"Known: {known}")


@dataclass(frozen=True, slots=True)
class Pages:
    lane: Lane

    async def models(self, request: Request) -> Response:
        """Every model of every endpoint, each once."""
        query = request.query_params
        form = read_format(query.get("format", ""))
        models = self._unified(EVERY)
        if not read_flag(query.get("include_unavailable", ""), "include_unavailable"):
            models = tuple(model for model in models if model.routable)
        return told(listing(chosen(models, dict(query)), form))

    async def model(self, name: str, request: Request) -> Response:
        """One model, by its name or an alias."""
        form = read_format(request.query_params.get("format", ""))
        return told(entry(self._found(EVERY, name), form))

    def listed(self, prefix: str, form: str) -> Any:
        async def page() -> Response:
            """The models of these endpoints."""
            canonical = canonical_of(prefix)
            models = tuple(model for model in self._unified(canonical) if model.routable)
            if not models and not self._anybody(canonical):
                raise NoEndpoint(f"No {prefix} endpoint is up", retry_after=self.lane.retry(canonical))
            return told(listing(models, form))

        return page

    def one(self, prefix: str) -> Any:
        async def page(name: str) -> Response:
            """One model of these endpoints."""
            return told(entry(self._found(canonical_of(prefix), name), "openai"))

        return page

    async def running(self) -> Response:
        """Running models of all Ollama endpoints."""
        endpoints = [one for one in self.lane.directory.qualifying("ollama") if one.routable]
        if not endpoints:
            raise NoEndpoint("No ollama endpoint is up", retry_after=self.lane.retry("ollama"))
        found = await asyncio.gather(*(running_on(endpoint) for endpoint in endpoints))
        models: dict[str, Any] = {}
        for entries in found:
            for one in entries:
                models.setdefault(str(one.get("name", one.get("model", ""))), one)
        return told({"models": list(models.values())})

    def _anybody(self, prefix: str) -> bool:
        local = prefix in (EVERY, ANY_OPENAI) and takes_part(self.lane)
        return local or any(one.routable for one in self.lane.directory.qualifying(prefix))

    def _found(self, prefix: str, name: str) -> Unified:
        """Raises ModelNotFound, ModelUnavailable."""
        low = name.casefold()
        for model in self._unified(prefix):
            names = {model.name.casefold(), *(source.offered.name.casefold() for source in model.sources)}
            if low in names or f"{low}:latest" in names or name in model.aliases:
                if model.routable:
                    return model
                only = f"Model '{name[:200]}' is only on endpoints that are down now"
                raise ModelUnavailable(only, retry_after=self.lane.retry(prefix))
        raise ModelNotFound(f"Model '{name[:200]}' is not served by any endpoint", hint="GET /olla/models lists them")

    def _unified(self, prefix: str) -> tuple[Unified, ...]:
        return unify(list(sources_of(self.lane, prefix)), self.lane.settings.model_aliases)


async def running_on(endpoint: Endpoint) -> list[dict[str, Any]]:
    """An endpoint that does not answer runs nothing."""
    try:
        reply = await ask(endpoint, "/api/ps", PAGE_TIMEOUT)
        answer = orjson.loads(reply.body)
    except (AtriumError, orjson.JSONDecodeError):
        return []
    entries = cast("dict[str, Any]", answer).get("models") if isinstance(answer, dict) else None
    if reply.head.status != 200 or not isinstance(entries, list):
        return []
    return [cast("dict[str, Any]", one) for one in cast("list[Any]", entries) if isinstance(one, dict)]


def canonical_of(prefix: str) -> str:
    return prefix if prefix == EVERY else PREFIXES[prefix].name


def chosen(models: tuple[Unified, ...], query: dict[str, str]) -> list[Unified]:
    """Filters combine with AND. Raises InvalidValue."""
    kind = query.get("type", "").lower()
    ability = query.get("capability", "").lower()
    if kind and kind not in ("llm", "vlm", "embeddings"):
        raise InvalidValue("'type' is one of llm, vlm, embeddings", param="type")
    if ability and ability not in TYPES:
        raise InvalidValue(f"'capability' is one of {', '.join(TYPES)}", param="capability")
    available = read_flag(query.get("available", ""), "available")
    endpoint, family = query.get("endpoint", ""), query.get("family", "").lower()
    return [
        model
        for model in models
        if (not kind or model.best.type == kind)
        and (not ability or model.best.type == TYPES[ability])
        and (not endpoint or any(source.endpoint == endpoint for source in model.sources))
        and (not family or model.family.lower() == family)
        and (available is None or model.routable == available)
    ]


def read_flag(text: str, param: str) -> bool | None:
    if not text:
        return None
    if text.lower() not in ("true", "false"):
        raise InvalidValue(f"'{param}' is true or false, not '{text[:50]}'", param=param)
    return text.lower() == "true"


def told(answer: dict[str, Any]) -> Response:
    return Response(orjson.dumps(answer), media_type=JSON)
