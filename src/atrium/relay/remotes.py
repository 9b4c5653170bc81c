"""The models of all endpoints, as services see them. Implements `core.ports.Remotes`."""

from __future__ import annotations

from dataclasses import dataclass

from atrium.core.endpoints import RemoteModel
from atrium.core.errors import ModelUnavailable
from atrium.relay.directory import Directory, Endpoint
from atrium.relay.discover import refresh

REFRESH_TIMEOUT = 2.0
"""Seconds for all lists together; a list that comes later is read by its endpoint's next check."""


@dataclass(frozen=True, slots=True)
class DirectoryRemotes:
    directory: Directory

    def names(self) -> tuple[str, ...]:
        return tuple(one.spec.name for one in self.directory.endpoints)

    def listed(self) -> tuple[RemoteModel, ...]:
        return tuple(
            remote(endpoint, name)
            for endpoint in self.directory.endpoints
            if endpoint.routable
            for name in endpoint.offered
        )

    def find(self, name: str) -> RemoteModel | None:
        down = False
        for endpoint in self.directory.endpoints:
            spelled = self._spelled(endpoint, name)
            if spelled is None:
                continue
            if endpoint.routable:
                return remote(endpoint, spelled)
            down = True
        if down:
            raise ModelUnavailable(
                f"Model '{name[:200]}' is known, but only on endpoints that are down now",
                param="model",
                retry_after=1.0,
            )
        return None

    async def refresh(self) -> None:
        await refresh(self.directory.endpoints, REFRESH_TIMEOUT)

    def _spelled(self, endpoint: Endpoint, name: str) -> str | None:
        """The name by which the endpoint has what the caller means."""
        for wanted in (name, *self.directory.aliases.get(name, ())):
            own = f"{endpoint.spec.name}/"
            for form in (wanted, wanted.removeprefix(own) if wanted.startswith(own) else ""):
                if form and endpoint.has(form.casefold()):
                    return endpoint.name_of(form.casefold())
        return None


def remote(endpoint: Endpoint, name: str) -> RemoteModel:
    spec = endpoint.spec
    return RemoteModel(spec.name, spec.kind, endpoint.offered[name])
