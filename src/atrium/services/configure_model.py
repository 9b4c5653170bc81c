"""Setting models up: under other names, with a system prompt, a template and defaults of their own."""

from __future__ import annotations

from dataclasses import dataclass, replace

from atrium.core.endpoints import RunnerPlan
from atrium.core.errors import EngineMissing, InvalidValue
from atrium.core.models import ModelCard, ModelConfig, Said
from atrium.core.ports import Engines, ModelConfigs, Models
from atrium.decisions.compose_catalog import merged
from atrium.decisions.resolve_name import installed_by_name


@dataclass(frozen=True, slots=True)
class Shown:
    """What is known of a model and what was decided from it."""

    card: ModelCard
    plan: RunnerPlan | None
    """None: it cannot be run here, and `problem` says why."""
    problem: str
    """What is wrong with its file or its configuration; empty: nothing."""


@dataclass(frozen=True, slots=True)
class ConfigureModel:
    models: Models
    engines: Engines
    configs: ModelConfigs

    def shown(self, name: str) -> Shown:
        """Raises ModelNotFound, ModelLoading."""
        catalog = self.models.snapshot()
        card = installed_by_name(name, catalog)
        problem = catalog.problems.get(card.name, "")
        try:
            return Shown(card, self.engines.planned(card), problem)
        except EngineMissing as missing:
            return Shown(card, None, problem or missing.sentence)

    def problems(self) -> dict[str, str]:
        """Name of each model or configuration that something is wrong with, and what."""
        return dict(self.models.snapshot().problems)

    async def create(self, name: str, base: str, config: ModelConfig) -> ModelCard:
        """A model of another one's files that stands on its own: what `config` leaves out is as it was with `base`.

        Raises ModelNotFound for `base`, InvalidValue, DiskFull.
        """
        source = installed_by_name(base, self.models.snapshot())
        under = source.config if source.name == name else replace(source.config, aliases=())
        # Where a word came from is told anew once it stands in the file.
        whole = replace(merged(under, config), origins={})
        await self.configs.copy(source, Said(name, whole))
        return installed_by_name(name, self.models.snapshot())

    async def copy(self, source: str, name: str) -> ModelCard:
        """Raises as `create` does."""
        return await self.create(name, source, ModelConfig())

    async def adopt(self, path: str, name: str) -> ModelCard:
        """Serve a GGUF file from where it lies. Raises InvalidValue where it is no model, NotFound."""
        await self.configs.write(Said(name, ModelConfig(), file=path))
        catalog = self.models.snapshot()
        if name not in catalog.cards:
            why = catalog.problems.get(name, "it is no model")
            await self.configs.remove(name)
            raise InvalidValue(f"{path} cannot be served: {why}", param="path")
        return catalog.cards[name]

    async def rescan(self) -> None:
        """What changed in adopted folders and configurations counts when this returns."""
        await self.configs.rescan()

    async def settled(self) -> None:
        """Returns once everything found in adopted folders has been looked into."""
        await self.configs.settled()
