"""Reading which models an endpoint has."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from atrium.core.endpoints import Offered
from atrium.core.errors import AtriumError, BadResponse
from atrium.dialects.listings.read import read_models
from atrium.dialects.ollama.inward import version_of
from atrium.relay.ask import ask
from atrium.relay.directory import REMEMBERED, Endpoint, foldings

LIST_TIMEOUT = 10.0
MISSING = frozenset({404, 405})


async def discover(endpoint: Endpoint) -> bool:
    """Read the list anew. A read that fails keeps the previous list; the answer tells whether it succeeded."""
    try:
        models = await listed(endpoint)
        if endpoint.spec.kind.speaks_ollama:
            await look_closer(endpoint)
    except AtriumError:
        return False
    endpoint.list_models(models, time.time())
    return True


async def listed(endpoint: Endpoint) -> tuple[Offered, ...]:
    """Raises NotSent, Disconnected, BadResponse, UpstreamTimeout."""
    spec = endpoint.spec
    paths = spec.kind.lists
    if spec.model_path:
        paths = ((spec.model_path, paths[0][1]),)
    timeout = max(LIST_TIMEOUT, spec.check_timeout)
    for path, form in paths:
        reply = await ask(endpoint, path, timeout)
        if reply.head.status == 200:
            return read_models(form, reply.body)
        if reply.head.status not in MISSING:
            break
    raise BadResponse(f"'{spec.name}' has no model list")


async def look_closer(endpoint: Endpoint) -> None:
    """Which of Ollama's abilities this one has: OpenAI's paths are newer than it, and so are log probabilities."""
    timeout = max(LIST_TIMEOUT, endpoint.spec.check_timeout)
    probed = await ask(endpoint, "/v1/models", timeout)
    told = await ask(endpoint, "/api/version", timeout)
    # Not before the list is read anew, with which every choice that was made by it is forgotten.
    endpoint.v1 = probed.head.status not in MISSING
    endpoint.version = version_of(told.body) if told.head.status == 200 else ()


async def look_what_is_warm(endpoint: Endpoint) -> None:
    """Which models an endpoint that loads them on demand has in memory; one that does not tell has none."""
    kind = endpoint.spec.kind
    if not kind.on_demand:
        return
    try:
        running = await loaded(endpoint)
    except AtriumError:
        running = ()
    endpoint.warm = frozenset(name for one in running for name in foldings(one.name, tagged=kind.speaks_ollama))


async def loaded(endpoint: Endpoint) -> tuple[Offered, ...]:
    """Raises NotSent, Disconnected, BadResponse, UpstreamTimeout."""
    if not endpoint.spec.kind.speaks_ollama:
        return tuple(one for one in await listed(endpoint) if one.loaded)
    reply = await ask(endpoint, "/api/ps", endpoint.spec.check_timeout)
    return read_models("ollama", reply.body) if reply.head.status == 200 else ()


async def refresh(endpoints: Iterable[Endpoint], timeout: float) -> None:
    """All at once, for at most so long."""
    tasks = [asyncio.create_task(discover(endpoint)) for endpoint in endpoints if endpoint.routable]
    if not tasks:
        return
    _, late = await asyncio.wait(tasks, timeout=timeout)
    for task in late:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def forget_old(endpoint: Endpoint, now: float) -> None:
    """An endpoint that has been down for a day is no reason to call its models unavailable."""
    if not endpoint.routable and endpoint.offered and now - endpoint.checked.listed_at > REMEMBERED:
        endpoint.forget_models()
