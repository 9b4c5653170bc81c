"""A model as one request wants it run."""

from __future__ import annotations

from dataclasses import replace

from atrium.core.models import ModelCard
from atrium.core.requests import Tuning


def tune_card(card: ModelCard, tuning: Tuning) -> ModelCard:
    """With another window, which reloads the model; never a larger one than it was trained for."""
    wanted = tuning.context
    if wanted is None:
        return card
    trained = card.facts.dimensions.trained_context
    context = min(wanted, trained) if trained else wanted
    return card if context == card.config.context else replace(card, config=replace(card.config, context=context))
