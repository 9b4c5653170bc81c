"""Which models a caller sees, and in which order: clients take the first one that they find for a chat model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from atrium.core.endpoints import Offered, RemoteModel
from atrium.core.models import Ability, ModelCard, NamedModel

LOCAL = "local"
OWNER = "atrium"
ORDER = (
    Ability.CHAT,
    Ability.VISION,
    Ability.COMPLETION,
    Ability.EMBEDDING,
    Ability.RERANK,
    Ability.SPEECH,
    Ability.TRANSCRIPTION,
    Ability.IMAGE,
)
"""Also decides what a model with several abilities is for in the first place."""
TOLD_BY_NAME = (
    (re.compile(r"whisper|transcribe", re.IGNORECASE), Ability.TRANSCRIPTION),
    (re.compile(r"(^|[-_/])tts([-_:]|$)|kokoro|piper", re.IGNORECASE), Ability.SPEECH),
    (re.compile(r"dall-e|gpt-image|stable-diffusion|(^|[-_/])(sdxl|flux)", re.IGNORECASE), Ability.IMAGE),
    (re.compile(r"rerank", re.IGNORECASE), Ability.RERANK),
)
"""Endpoints list what is no chat model beside those that are, and only the name tells them apart."""


def order_models(
    cards: Sequence[ModelCard], remote: Sequence[RemoteModel], defaults: Mapping[Ability, str]
) -> tuple[NamedModel, ...]:
    """Every model of every binding: chat models first, the default first among its kind, local ones before others."""
    chosen = frozenset(defaults.values())
    models = [*(local_model(card) for card in cards), *(remote_model(one) for one in remote)]
    return tuple(sorted(models, key=lambda one: (ORDER.index(one.ability), one.name not in chosen)))


def each_once(models: Sequence[NamedModel]) -> tuple[NamedModel, ...]:
    """A name that several bindings have is one name to a caller."""
    found: dict[str, NamedModel] = {}
    for model in models:
        found.setdefault(model.name, model)
    return tuple(found.values())


def local_model(card: ModelCard) -> NamedModel:
    first = next(ability for ability in ORDER if ability in card.abilities)
    return NamedModel(card.name, LOCAL, first, card.created, OWNER)


def remote_model(model: RemoteModel) -> NamedModel:
    offered = model.offered
    ability = ability_of(offered)
    return NamedModel(offered.name, model.endpoint, ability, max(1, offered.created), offered.owner or model.endpoint)


def ability_of(offered: Offered) -> Ability:
    for pattern, ability in TOLD_BY_NAME:
        if pattern.search(offered.name):
            return ability
    return Ability.EMBEDDING if offered.type == "embeddings" else Ability.CHAT
