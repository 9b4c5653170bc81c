"""Bringing models in and taking them out, and what could be brought in."""

from __future__ import annotations

from dataclasses import dataclass

from atrium.core.errors import Conflict, ModelNotFound
from atrium.core.models import Available, Installing, ModelCard
from atrium.core.ports import Engines, Gallery, ModelConfigs, Models


@dataclass(frozen=True, slots=True)
class InstallModel:
    gallery: Gallery
    models: Models
    engines: Engines
    configs: ModelConfigs

    def available(self) -> tuple[Available, ...]:
        """What can be installed by name."""
        return self.gallery.available()

    def default_sources(self) -> list[str]:
        """The default models that are not there yet."""
        catalog = self.models.snapshot()
        return [name for name in dict.fromkeys(catalog.defaults.values()) if name not in catalog.cards]

    async def start(self, source: str, *, held: bool = False) -> Installing:
        """Begin (or join) an installation and return at once. `held`: it ends when nobody waits for it any more.

        Raises NotFound, Forbidden, InvalidValue.
        """
        return await self.gallery.install(source, held=held)

    async def finished(self, name: str) -> ModelCard:
        """Raises InstallFailed, DiskFull."""
        return await self.gallery.finished(name)

    async def delete(self, name: str) -> None:
        """With what is said of it; its runner ends first.

        Raises ModelNotFound; Conflict where its files are not ours to delete.
        """
        card = self.models.snapshot().cards.get(name)
        if card is None:
            raise ModelNotFound(f"The model '{name[:200]}' is not installed", param="name")
        said = self.configs.said(name)
        defined = said is not None and said.defines
        if card.adopted and not defined:
            raise Conflict(
                f"The model '{name}' is adopted from {card.path}, which is not ours to delete",
                hint="Remove the file, or its folder from models.adopt",
                param="name",
            )
        await self.engines.unload(name)
        if not defined:
            await self.gallery.delete(name)
        await self.configs.remove(name)
