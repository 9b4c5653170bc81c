"""Checking endpoints, each at its own interval. Source: contract `olla.md`, sections 7 and 13."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress

from atrium.core.endpoints import ROUTABLE, EndpointSpec, Health
from atrium.core.errors import AtriumError
from atrium.relay.ask import ask
from atrium.relay.directory import Directory, Endpoint
from atrium.relay.discover import MISSING, discover, forget_old, look_what_is_warm

SLOW = 10.0
"""Seconds after which a good answer means busy."""
BACKOFF = (1, 1, 2, 4, 8, 12)
"""Intervals to wait after so many failures in a row; the last counts for all more."""
LONGEST_WAIT = 60.0
JITTER = 0.1
RATE_LIMITED_FOR = 30.0
SWEEP = 5.0


class Checker:
    """Owns one task per endpoint. Used as a context; leaving it ends them all."""

    def __init__(self, directory: Directory, discovery: float) -> None:
        self._directory = directory
        self._discovery = discovery
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._sweeping: asyncio.Task[None] | None = None
        self._first: dict[str, asyncio.Event] = {}

    async def __aenter__(self) -> Checker:
        self._sweeping = asyncio.create_task(self._sweep())
        for endpoint in self._directory.endpoints:
            self.watch(endpoint)
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [*self._tasks.values(), *([self._sweeping] if self._sweeping else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._directory.close()

    def watch(self, endpoint: Endpoint) -> None:
        self._first[endpoint.spec.name] = asyncio.Event()
        self._tasks[endpoint.spec.name] = asyncio.create_task(self._run(endpoint))

    async def unwatch(self, name: str) -> None:
        self._first.pop(name, None)
        task = self._tasks.pop(name, None)
        if task:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def checked_once(self, timeout: float) -> None:
        """Wait until every endpoint was checked for the first time, for at most so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                for event in list(self._first.values()):
                    await event.wait()

    async def check(self, endpoint: Endpoint) -> float:
        """Now: probe, and read the models of an endpoint that has come back. Gives seconds until the next check.

        The time of day is for showing; it may jump, so nothing is waited for by it.
        """
        before = endpoint.health
        started = time.monotonic()
        health, wait = await self._probe(endpoint)
        checked = endpoint.checked
        checked.at, checked.took = time.time(), time.monotonic() - started
        good = health in ROUTABLE
        checked.failures = 0 if good else checked.failures + 1
        recovered = good and before not in ROUTABLE
        # The list is read before requests that name a model may come.
        due = not 0 <= checked.at - checked.listed_at < self._discovery
        if recovered or (good and (checked.stale or due)):
            await discover(endpoint)
        if good and self._directory.balancing.warm_first:
            await look_what_is_warm(endpoint)
        endpoint.health = health
        # The interval counts from one check's beginning to the next one's.
        pause = max(0.0, (wait or next_wait(endpoint.spec, health, checked.failures)) - checked.took)
        checked.next_at = checked.at + pause
        forget_old(endpoint, time.time())
        self._directory.tell_health(endpoint, before)
        return pause

    async def _run(self, endpoint: Endpoint) -> None:
        while True:
            pause = await (self.check(endpoint) if endpoint.spec.check_interval else self._trust(endpoint))
            if event := self._first.get(endpoint.spec.name):
                event.set()
            await asyncio.sleep(pause)

    async def _trust(self, endpoint: Endpoint) -> float:
        """An endpoint that is not to be checked is only asked for its models. Gives seconds until the next time."""
        pause = self._discovery if await discover(endpoint) else LONGEST_WAIT
        if self._directory.balancing.warm_first:
            await look_what_is_warm(endpoint)
        endpoint.checked.next_at = time.time() + pause
        return pause

    async def _probe(self, endpoint: Endpoint) -> tuple[Health, float]:
        """The health, and the seconds until the next check where the endpoint says so itself."""
        spec, checked = endpoint.spec, endpoint.checked
        path = spec.health_path or checked.path or spec.kind.health
        started = time.monotonic()
        try:
            reply = await ask(endpoint.health_at, path, spec.check_timeout)
            fallback = spec.model_path or spec.kind.lists[0][0]
            if reply.head.status in MISSING and not spec.health_path and path != fallback:
                checked.path = fallback
                reply = await ask(endpoint, fallback, spec.check_timeout)
        except AtriumError:
            return Health.OFFLINE, 0.0
        status = reply.head.status
        if 200 <= status < 300:
            return (Health.BUSY if time.monotonic() - started > SLOW else Health.HEALTHY), 0.0
        if status in (401, 403):
            return Health.CONFIG_ERROR, 0.0
        if status == 429:
            given = reply.head.value(b"retry-after")
            return Health.RATE_LIMITED, float(given) if given.isdigit() and len(given) < 6 else RATE_LIMITED_FOR
        return Health.UNHEALTHY, 0.0

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP)
            self._directory.sweep(time.monotonic())


def next_wait(spec: EndpointSpec, health: Health, failures: int) -> float:
    """Seconds until the next check. Wrong credentials are looked at without back-off."""
    if health in ROUTABLE or health is Health.CONFIG_ERROR:
        return spec.check_interval
    factor = BACKOFF[min(failures, len(BACKOFF) - 1)]
    wait = spec.check_interval * factor * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - guards nothing
    return min(wait, max(LONGEST_WAIT, spec.check_interval))
