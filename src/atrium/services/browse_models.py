"""Every model that a caller may name, on this machine and on endpoints."""

from __future__ import annotations

from dataclasses import dataclass

from atrium.core.errors import ModelNotFound
from atrium.core.models import Ability, NamedModel
from atrium.core.ports import Models, Remotes
from atrium.decisions.order_models import LOCAL, each_once, local_model, order_models, remote_model
from atrium.decisions.resolve_name import candidates, missing


@dataclass(frozen=True, slots=True)
class BrowseModels:
    models: Models
    remotes: Remotes

    def by_binding(self) -> tuple[NamedModel, ...]:
        """Chat models first; a name stands once for each binding that has it."""
        catalog = self.models.snapshot()
        cards = [catalog.cards[name] for name in sorted(catalog.cards)]
        return order_models(cards, self.remotes.listed(), catalog.defaults)

    def everywhere(self) -> tuple[NamedModel, ...]:
        """Each name once."""
        return each_once(self.by_binding())

    def bindings(self) -> tuple[str, ...]:
        return (LOCAL, *self.remotes.names())

    def one(self, name: str) -> NamedModel:
        """By its name, `binding/name` or an alias. Raises ModelNotFound, ModelUnavailable, ModelLoading."""
        if not name:
            raise ModelNotFound("Name a model", param="model")
        catalog = self.models.snapshot()
        for candidate in candidates(name, catalog, Ability.CHAT):
            if card := catalog.cards.get(candidate):
                return local_model(card)
        if found := self.remotes.find(name):
            return remote_model(found)
        raise missing(name, catalog, Ability.CHAT)

    async def refresh(self) -> None:
        """Read the lists of all endpoints anew."""
        await self.remotes.refresh()
