"""From a model's card to a plan that fits: with what was seen of it before, and smaller where it must be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from atrium.core.errors import EngineMissing
from atrium.core.models import ModelCard
from atrium.decisions.reckon_memory import reckon_memory
from atrium.engines.recipes.recipe import Plan, Recipe
from atrium.engines.seen import SeenMemory

MOST_SHRINKS = 24
"""Each halves the context or the slots."""


@dataclass(frozen=True, slots=True)
class Fitted:
    plan: Plan
    memory: int
    """Bytes it is reckoned with."""
    shrinks: int = 0


class Fitter:
    def __init__(self, recipes: Mapping[str, Recipe], seen: SeenMemory) -> None:
        self._recipes = recipes
        self._seen = seen

    def fit(self, card: ModelCard, budget: int, allowed: int) -> Fitted:
        """The largest plan that `allowed` bytes can hold, or else the smallest there is.

        `budget` is what all models may take on a good day, `allowed` what they may take now. Raises as a recipe does.
        """
        recipe = self._recipes.get(card.engine)
        if recipe is None:
            raise EngineMissing(f"no engine `{card.engine}` is known")
        fitted = self._reckoned(recipe.plan(card, budget), 0)
        while fitted.memory > allowed and fitted.shrinks < MOST_SHRINKS:
            smaller = recipe.plan(card, budget, shrinks=fitted.shrinks + 1)
            if smaller == fitted.plan:
                return self._smallest(fitted, allowed)
            fitted = self._reckoned(smaller, fitted.shrinks + 1)
        return fitted

    def _reckoned(self, plan: Plan, shrinks: int) -> Fitted:
        return Fitted(plan, reckon_memory(plan.memory, plan.certain, self._seen.of(plan.fingerprint).peak), shrinks)

    def _smallest(self, fitted: Fitted, allowed: int) -> Fitted:
        """One peak must not keep out for ever what can be loaded: it then has all the memory there is."""
        seen = self._seen.of(fitted.plan.fingerprint)
        able = max(seen.base, fitted.plan.certain) <= allowed and fitted.plan.memory <= allowed
        return Fitted(fitted.plan, allowed, fitted.shrinks) if able else fitted
