"""Bringing models in and taking them out, and what could be brought in."""

from __future__ import annotations

from dataclasses import dataclass

from atrium.core.errors import ModelNotFound
from atrium.core.models import Available, Installing, ModelCard
from atrium.core.ports import Engines, Gallery, Models


@dataclass(frozen=True, slots=True)
class InstallModel:
    gallery: Gallery
    models: Models
    engines: Engines

    def available(self) -> tuple[Available, ...]:
        """What can be installed by name."""
        return self.gallery.available()

    def default_sources(self) -> list[str]:
        """The default models that are not there yet."""
        catalog = self.models.snapshot()
        return [name for name in dict.fromkeys(catalog.defaults.values()) if name not in catalog.cards]

    async def start(self, source: str) -> Installing:
        """Begin (or join) an installation and return at once. Raises NotFound, Forbidden, InvalidValue."""
        return await self.gallery.install(source)

    async def finished(self, name: str) -> ModelCard:
        """Raises InstallFailed, DiskFull."""
        return await self.gallery.finished(name)

    async def delete(self, name: str) -> None:
        """Its runner ends first. Raises ModelNotFound."""
        if name not in self.models.snapshot().cards:
            raise ModelNotFound(f"The model '{name[:200]}' is not installed", param="name")
        await self.engines.unload(name)
        await self.gallery.delete(name)
