"""Status documents of the gateway under `/internal`. Source: contract `olla.md`, section 12."""

from __future__ import annotations

import gc
import hashlib
import os
import platform
import sys
import threading
import time
from asyncio import all_tasks
from typing import Any, cast

import orjson
import psutil
from fastapi import APIRouter, Request, Response

from atrium import __version__
from atrium.core.kinds import EVERY
from atrium.decisions.break_circuit import State
from atrium.dialects.olla import words
from atrium.dialects.olla.listings import ABILITIES, Unified, parameters, unify
from atrium.http.lane import Lane
from atrium.http.surfaces import local_endpoint
from atrium.http.surfaces.local_endpoint import sources_of, takes_part
from atrium.http.surfaces.status_rows import endpoint_row, full, in_order, model_row, short
from atrium.http.surfaces.translator_rows import translator_pages
from atrium.relay.tally import LOCAL

Json = dict[str, Any]
JSON = "application/json"
VOLATILE = frozenset(
    {
        *("timestamp", "last_check", "next_check", "health_check", "last_model_sync", "uptime", "last_seen"),
        *("last_requested", "last_used", "health_check_at", "next_check_at", "response_time"),
        *("last_updated", "last_model_sync_at", "last_seen_at"),
    }
)
"""What changes by itself, and does not make a document another one."""
MOST_RECENT = 10
LOW_SHARE, WORST_SHARE = 0.95, 0.90
LOW_UP, WORST_UP = 0.8, 0.5
MOST_VIOLATIONS, MOST_BLOCKED = 100, 10
PRESSURE = ((0.9, "high"), (0.75, "medium"))


def router(lane: Lane) -> APIRouter:
    status = StatusPages(lane)
    routes = APIRouter(tags=["internal"])
    get = ["GET", "HEAD"]
    routes.add_api_route("/internal/status", status.overview, methods=get)
    routes.add_api_route("/internal/status/endpoints", status.endpoints, methods=get)
    routes.add_api_route("/internal/status/models", status.models, methods=get)
    routes.add_api_route("/internal/stats/models", status.model_stats, methods=get)
    routes.add_api_route("/internal/stats/sticky", status.sticky, methods=get)
    routes.add_api_route("/internal/stats/translators", status.translators, methods=get)
    routes.add_api_route("/internal/process", status.process, methods=get)
    return routes


class StatusPages:
    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.directory = lane.directory
        self.started = time.time()

    async def overview(self, request: Request) -> Response:
        """Endpoints, proxy, security and system in short."""
        now = time.time()
        shown = [short(endpoint, now) for endpoint in in_order(self.directory.endpoints)]
        shown += local_endpoint.short(self.lane, now)
        limiter = self.lane.gateway.limiter
        rate, size, blocked = limiter.violations.rate, limiter.violations.size, limiter.blocked()
        elevated = rate + size > MOST_VIOLATIONS or blocked > MOST_BLOCKED
        security = {
            "status": "elevated" if elevated else "normal",
            "blocked_ips": blocked,
            "violations": {"rate_limits": rate, "size_limits": size},
        }
        proxy = {"engine": "atrium", "profile": "streaming", "balancer": self.directory.balancer}
        document = {
            "timestamp": words.stamp(now),
            "endpoints": shown,
            "proxy": proxy,
            "security": security,
            "system": self._system(now, rate + size),
        }
        return tagged(document, request)

    def _system(self, now: float, violations: int) -> Json:
        endpoints, tallies = self.directory.endpoints, self.directory.tallies
        up = sum(one.routable for one in endpoints)
        good = tallies.requests - tallies.failures
        local = takes_part(self.lane)
        return {
            "status": self._condition(up, len(endpoints)),
            "endpoints_up": f"{up + local}/{len(endpoints) + local}",
            "success_rate": words.share(good, tallies.requests),
            "avg_latency": words.span(tallies.ended.mean),
            "total_traffic": words.size(tallies.ended.traffic),
            "uptime": words.span(now - self.started),
            "start_time": words.stamp(self.started),
            "version": __version__,
            "commit": "",
            "active_connections": sum(one.in_flight for one in endpoints) + local_endpoint.busy(self.lane),
            "security_violations": violations,
            "total_requests": tallies.requests,
            "total_failures": tallies.failures,
            "has_traffic": tallies.requests > 0,
        }

    def _condition(self, up: int, count: int) -> str:
        tallies = self.directory.tallies
        if not count:
            return "healthy" if takes_part(self.lane) else "critical"
        success = 1 - tallies.failures / tallies.requests if tallies.requests else 1.0
        if up / count < WORST_UP or success < WORST_SHARE:
            return "critical"
        return "degraded" if up / count < LOW_UP or success < LOW_SHARE else "healthy"

    async def endpoints(self, request: Request) -> Response:
        """Each endpoint in full."""
        now = time.time()
        endpoints = in_order(self.directory.endpoints)
        closed = [one for one in endpoints if one.routable and one.circuit.state is not State.OPEN]
        local = local_endpoint.full(self.lane, now)
        document = {
            "timestamp": words.stamp(now),
            "total_count": len(endpoints) + len(local),
            "healthy_count": sum(one.routable for one in endpoints) + len(local),
            "routable_count": len(closed) + len(local),
            "endpoints": [*(full(endpoint, now) for endpoint in endpoints), *local],
        }
        return tagged(document, request)

    async def models(self, request: Request) -> Response:
        """The registry of models."""
        now = time.time()
        models = self._unified()
        seen = {model.name: self._seen(model, now) for model in models}
        families: dict[str, list[str]] = {}
        for model in models:
            families.setdefault(model.family or "unknown", []).append(model.name)
        recent = sorted(models, key=lambda model: (-seen[model.name], model.name))[:MOST_RECENT]
        document: Json = {
            "timestamp": words.stamp(now),
            "total_models": len(models),
            "total_families": len(families),
            "total_endpoints": len({source.endpoint for model in models for source in model.sources}),
            "models_by_family": families,
            "recent_models": [self._recent(model, seen[model.name], now) for model in recent],
        }
        query = request.query_params
        if query.get("detailed") == "true" and query.get("group") == "family":
            document["model_groups"] = [
                {
                    "family": family,
                    "model_count": len(names),
                    "endpoints": sorted({s.endpoint for m in models if m.name in names for s in m.sources}),
                    "models": [self._recent(m, seen[m.name], now) for m in models if m.name in names],
                }
                for family, names in families.items()
            ]
        return tagged(document, request)

    def _unified(self) -> tuple[Unified, ...]:
        return unify(list(sources_of(self.lane, EVERY)), self.lane.settings.model_aliases)

    def _seen(self, model: Unified, now: float) -> float:
        """What is installed here is seen all the time."""
        listed = {one.spec.name: one.checked.listed_at for one in self.directory.endpoints}
        return max(listed.get(source.endpoint, now) for source in model.sources)

    def _recent(self, model: Unified, seen: float, now: float) -> Json:
        best = model.best
        ids = {one.spec.name: one.id for one in self.directory.endpoints}
        shown: Json = {
            "name": model.name,
            "type": best.type,
            "family": model.family,
            "params": best.parameter_size or parameters(best.name),
            "quant": best.quantization,
            "size": words.size(best.size) if best.size else "",
            "last_seen": words.ago(seen, now),
            "last_seen_at": words.stamp(seen),
            "endpoints": [source.endpoint for source in model.sources],
            "endpoint_ids": [ids.get(source.endpoint, source.endpoint) for source in model.sources],
            "aliases": list(model.aliases),
            "capabilities": ABILITIES[best.type],
        }
        return {key: value for key, value in shown.items() if value != ""}

    async def model_stats(self, request: Request) -> Response:
        """Counters of every model that was asked for."""
        query = request.query_params
        include_endpoints = query.get("include_endpoints") == "true"
        include_summary = query.get("include_summary") == "true"
        now = time.time()
        tallies = self.directory.tallies
        models = sorted(tallies.models.items(), key=lambda pair: (-pair[1].requests, pair[0]))
        owns = [model.own for _, model in models]
        document: Json = {
            "timestamp": words.stamp(now),
            "models": [model_row(name, model, now, with_endpoints=include_endpoints) for name, model in models],
            "endpoints": {},
            "summary": {
                "total_models": len(models),
                "active_models": sum(own.requests > 0 for own in owns),
                "total_requests": sum(own.requests for own in owns),
                "overall_success_rate": words.share(sum(own.successes for own in owns), sum(own.ended for own in owns)),
                "total_traffic": words.size(sum(own.traffic for own in owns)),
                "most_popular_model": models[0][0] if models else "",
                "least_popular_model": models[-1][0] if models else "",
            },
        }
        if include_summary:
            document["endpoints"] = {
                one.spec.name: endpoint_row(one.spec.name, one.tally, now) for one in self.directory.endpoints
            }
            if takes_part(self.lane):
                document["endpoints"][LOCAL] = endpoint_row(LOCAL, tallies.local, now)
        return Response(orjson.dumps(document), media_type=JSON)

    async def sticky(self) -> dict[str, Any]:
        """Conversations that stay with an endpoint."""
        return self.lane.sessions.told() if self.lane.sessions else {"enabled": False}

    async def translators(self) -> dict[str, Any]:
        """Counters of the translations between dialects."""
        return {"timestamp": words.stamp(time.time()), **translator_pages(self.directory.translations)}

    async def process(self) -> dict[str, Any]:
        """What this process uses."""
        memory = psutil.Process().memory_info()
        total = psutil.virtual_memory().total
        pressure = next((word for share, word in PRESSURE if memory.rss > share * total), "low")
        rss = words.size(memory.rss)
        cycles = sum(generation["collections"] for generation in gc.get_stats())
        cores = os.cpu_count() or 1
        return {
            "timestamp": words.stamp(time.time()),
            "memory": {
                "heap_alloc": rss,
                "heap_sys": words.size(memory.vms),
                "heap_inuse": rss,
                "heap_released": "0 B",
                "stack_inuse": "0 B",
                "total_alloc": rss,
                "memory_pressure": pressure,
                "rss_bytes": memory.rss,
            },
            "garbage_collection": {
                "last_gc": "",
                "total_gc_time": "0ms",
                "avg_gc_pause": "0ms",
                "gc_cpu_fraction": 0.0,
                "num_gc_cycles": cycles,
            },
            "goroutines": {
                "health_status": "healthy",
                "count": len(all_tasks()) + threading.active_count(),
                "cgo_calls": 0,
            },
            "runtime": {
                "uptime": words.span(time.time() - self.started),
                "go_version": "",
                "python_version": platform.python_version(),
                "num_cpu": cores,
                "gomaxprocs": cores,
                "pid": os.getpid(),
            },
            "allocations": {"total_mallocs": 0, "total_frees": 0, "net_objects": sys.getallocatedblocks()},
        }


def tagged(document: Json, request: Request) -> Response:
    """With a weak ETag over what lasts; a reader who has it already is told so."""
    digest = hashlib.sha256(orjson.dumps(lasting(document), option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
    headers = {"ETag": f'W/"{digest}"', "Cache-Control": "private, no-cache"}
    known = request.headers.get("if-none-match", "")
    if digest in known or known.strip() == "*":
        return Response(status_code=304, headers=headers)
    return Response(orjson.dumps(document), media_type=JSON, headers=headers)


def lasting(value: Any) -> Any:
    if isinstance(value, dict):
        members = cast("Json", value)
        return {key: lasting(inner) for key, inner in members.items() if key not in VOLATILE}
    return [lasting(inner) for inner in cast("list[Any]", value)] if isinstance(value, list) else value
