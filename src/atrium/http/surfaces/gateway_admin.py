"""The administrator's API of the gateway: endpoints that come and go, and what became of a request."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Body

from atrium.core.errors import ConfigError, InvalidValue, NotFound
from atrium.http.lane import Lane
from atrium.http.reload import Reload
from atrium.http.surfaces.status_rows import full, in_order
from atrium.relay.roster import Roster

MOST_SHOWN = 1000


def router(lane: Lane, roster: Roster, reload: Reload) -> APIRouter:
    routes = APIRouter(prefix="/api/admin", tags=["admin"])

    @routes.get("/endpoints")
    async def endpoints() -> list[dict[str, Any]]:
        """Every endpoint as it stands."""
        return [full(one, time.time()) for one in in_order(lane.directory.endpoints)]

    @routes.post("/endpoints", status_code=201)
    async def add(given: dict[str, Any] = Body()) -> dict[str, Any]:  # noqa: B008 - the framework's way
        """Add an endpoint, with the keys that the configuration has; it is remembered."""
        return full(await roster.add(given), time.time())

    @routes.post("/endpoints/{name}/check")
    async def check(name: str) -> dict[str, Any]:
        """Probe an endpoint now."""
        return full(await roster.check(name), time.time())

    @routes.delete("/endpoints/{name}", status_code=204)
    async def remove(name: str) -> None:
        """Forget an endpoint that was added here."""
        await roster.remove(name)

    @routes.post("/reload")
    async def read_again() -> Mapping[str, tuple[str, ...]]:
        """Read the configuration again: endpoints, aliases and limits count from the next request on."""
        try:
            return await reload()
        except ConfigError as error:
            raise InvalidValue(error.message, hint=error.hint, param="config") from None

    @routes.get("/requests")
    async def requests(limit: int = 50) -> list[Mapping[str, object]]:
        """The newest requests, newest first."""
        newest = list(lane.explained.values())[::-1]
        return [record.told() for record in newest[: max(1, min(limit, MOST_SHOWN))]]

    @routes.get("/requests/{request_id}")
    async def explain(request_id: str) -> Mapping[str, object]:
        """Who called, which rule chose which endpoint, why the others were passed over, tries, waits, tokens."""
        record = lane.explained.get(request_id)
        if record is None:
            hint = f"The newest {lane.proxy.explained} are kept"
            raise NotFound(f"There is no record of a request '{request_id[:128]}'", hint=hint)
        return record.told()

    return routes
