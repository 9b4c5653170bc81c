"""Endpoints that come and go while the server runs: added, checked, removed, and remembered over a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from atrium.core.endpoints import EndpointSpec
from atrium.core.errors import Conflict, InvalidValue
from atrium.relay.directory import Directory, Endpoint
from atrium.relay.discover import discover
from atrium.relay.health import Checker

MOST_ADDED = 1000
Given = Mapping[str, Any]


class Memory(Protocol):
    """Where added endpoints are kept, credentials and all."""

    async def all(self) -> Sequence[Given]: ...

    async def replace(self, given: Sequence[Given]) -> None: ...


@dataclass(slots=True)
class Roster:
    directory: Directory
    checker: Checker
    memory: Memory
    read: Callable[[Given], EndpointSpec]
    """Raises InvalidValue for what is no endpoint."""

    async def restore(self) -> None:
        """At the start, behind the endpoints of the configuration, whose names come first."""
        taken = {one.spec.name for one in self.directory.endpoints}
        for given in await self.memory.all():
            spec = self.read(given)
            if spec.name not in taken:
                self.checker.watch(self.directory.add(spec))

    async def add(self, given: Given) -> Endpoint:
        """Checked once before it is told. Raises InvalidValue, Conflict."""
        spec = self.read(given)
        kept = await self.memory.all()
        if len(kept) >= MOST_ADDED:
            raise InvalidValue(f"At most {MOST_ADDED} endpoints can be added", param="endpoints")
        endpoint = self.directory.add(spec)
        await self.memory.replace([*kept, {**given, "name": spec.name}])
        if spec.check_interval:
            await self.checker.check(endpoint)
        self.checker.watch(endpoint)
        return endpoint

    async def configure(self, specs: Sequence[EndpointSpec]) -> Mapping[str, tuple[str, ...]]:
        """The configuration's endpoints are these from now on; those that were added stay.

        One that was changed is checked before it takes over, so that there is no moment without it.
        """
        added = {given.get("name") for given in await self.memory.all()}
        wanted = {spec.name: spec for spec in specs}
        known = {one.spec.name: one for one in self.directory.endpoints}
        gone = [name for name in known if name not in wanted and name not in added]
        changed = [name for name, spec in wanted.items() if name in known and known[name].spec != spec]
        fresh = [name for name in wanted if name not in known]
        for name in gone:
            self.directory.remove(name)
            await self.checker.unwatch(name)
        renewed = [self.directory.renewed(known[name], wanted[name]) for name in changed]
        await asyncio.gather(*(self.checker.check(one) for one in renewed if not one.routable))
        for one in renewed:
            self.directory.swap(one)
            await self.checker.unwatch(one.spec.name)
            self.checker.watch(one)
        for name in fresh:
            self.checker.watch(self.directory.add(wanted[name]))
        return {"added": tuple(fresh), "removed": tuple(gone), "changed": tuple(changed)}

    async def remove(self, name: str) -> None:
        """Raises NotFound; Conflict for an endpoint of the configuration."""
        self.directory.one(name)
        kept = await self.memory.all()
        left = [given for given in kept if given.get("name") != name]
        if len(left) == len(kept):
            hint = "Take it out of the configuration file"
            raise Conflict(f"The endpoint '{name}' stands in the configuration", hint=hint)
        await self.memory.replace(left)
        self.directory.remove(name)
        await self.checker.unwatch(name)

    async def check(self, name: str) -> Endpoint:
        """Probe it now, and read its models. Raises NotFound."""
        endpoint = self.directory.one(name)
        await self.checker.check(endpoint)
        if endpoint.routable:
            await discover(endpoint)
        return endpoint
