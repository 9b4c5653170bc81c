"""Which models there are, and which of them a name means."""

from __future__ import annotations

from dataclasses import dataclass

from atrium.core.errors import ModelNotFound
from atrium.core.models import Ability, Installing, ModelCard
from atrium.core.ports import Models
from atrium.decisions.resolve_name import candidates, missing, resolve_name


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
        catalog = self.models.snapshot()
        if not name:
            raise ModelNotFound("Name a model", param="model")
        if card := self.find(name):
            return card
        raise missing(name, catalog, Ability.CHAT)

    def find(self, name: str) -> ModelCard | None:
        """The installed model that a name means, whatever it is for; None where there is none."""
        catalog = self.models.snapshot()
        found = (catalog.cards.get(one) for one in candidates(name, catalog, Ability.CHAT))
        return next((card for card in found if card), None)

    def meant(self, name: str, ability: Ability) -> ModelCard:
        """Raises as `resolve_name` does."""
        return resolve_name(name, self.models.snapshot(), ability)

    def defaults(self) -> dict[str, str]:
        """Name of each default model, by ability."""
        return {ability.value: name for ability, name in self.models.snapshot().defaults.items()}
