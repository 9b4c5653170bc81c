"""Which models there are, and which of them a name means."""

from __future__ import annotations

from dataclasses import dataclass

from atrium.core.models import Ability, Installing, ModelCard
from atrium.core.ports import Models
from atrium.decisions.resolve_name import installed, installed_by_name, resolve_name


@dataclass(frozen=True, slots=True)
class ListModels:
    models: Models

    def listed(self) -> tuple[ModelCard, ...]:
        """Installed models by name."""
        cards = self.models.snapshot().cards
        return tuple(cards[name] for name in sorted(cards))

    def installing(self) -> tuple[Installing, ...]:
        under_way = self.models.snapshot().installing
        return tuple(under_way[name] for name in sorted(under_way))

    def one(self, name: str) -> ModelCard:
        """By its name or an alias. Raises ModelNotFound, ModelLoading."""
        return installed_by_name(name, self.models.snapshot())

    def find(self, name: str) -> ModelCard | None:
        """The installed model that a name means, whatever it is for; None where there is none."""
        return installed(name, self.models.snapshot(), Ability.CHAT)

    def meant(self, name: str, ability: Ability) -> ModelCard:
        """Raises as `resolve_name` does."""
        return resolve_name(name, self.models.snapshot(), ability)

    def defaults(self) -> dict[str, str]:
        """Name of each default model, by ability."""
        return {ability.value: name for ability, name in self.models.snapshot().defaults.items()}
