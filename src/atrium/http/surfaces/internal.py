"""Health, version and metrics: what a person or a probe asks first."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Response

from atrium import __version__
from atrium.telemetry.metrics import Metrics

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def router(metrics: Metrics, ready: Callable[[], bool]) -> APIRouter:
    """`ready` turns false when the server is stopping."""
    routes = APIRouter(tags=["internal"])

    async def health() -> dict[str, str]:
        """The process serves."""
        return {"status": "healthy"}

    async def readiness(response: Response) -> dict[str, str]:
        """New requests are taken."""
        if ready():
            return {"status": "ready"}
        response.status_code = 503
        return {"status": "stopping"}

    async def version() -> dict[str, str]:
        """Which Atrium this is."""
        return {"version": __version__}

    async def welcome() -> dict[str, str]:
        """What answers here."""
        return {"name": "Atrium", "version": __version__, "api": "/v1", "openapi": "/openapi.json"}

    async def figures() -> Response:
        """Prometheus text."""
        return Response(metrics.render(), media_type=METRICS_TYPE)

    for path in ("/internal/health", "/healthz"):
        routes.add_api_route(path, health, methods=["GET", "HEAD"])
    routes.add_api_route("/readyz", readiness, methods=["GET", "HEAD"])
    for path in ("/version", "/internal/version"):
        routes.add_api_route(path, version, methods=["GET", "HEAD"])
    routes.add_api_route("/", welcome, methods=["GET", "HEAD"])
    for path in ("/metrics", "/internal/metrics"):
        routes.add_api_route(path, figures, methods=["GET", "HEAD"], response_class=Response)
    return routes
