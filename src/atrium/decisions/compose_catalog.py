"""Which models there are and how each is set up: from what is installed, what was found, and what is said of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from atrium.core.models import Ability, ModelCard, ModelConfig, Said
from atrium.core.requests import Sampling
from atrium.decisions.fill_sampling import OPEN, fill_sampling

FILE = "the model's file"
LONGEST_CHAIN = 8
"""Models that may be made of one another in a row."""
UNSET: tuple[object, ...] = (None, "", (), {})


@dataclass(frozen=True, slots=True)
class Composed:
    cards: Mapping[str, ModelCard]
    aliases: Mapping[str, tuple[str, ...]]
    problems: Mapping[str, str]
    """Name to what is wrong with what is said of it."""


def compose(
    installed: Mapping[str, ModelCard],
    adopted: Mapping[str, ModelCard],
    said: Sequence[Said],
    files: Mapping[str, ModelCard],
) -> Composed:
    """`files` are the models of single files by path. What was installed comes before what was only found."""
    cards = {name: with_own_defaults(card) for name, card in {**adopted, **installed}.items()}
    problems: dict[str, str] = {}
    made = [one for one in said if one.defines]
    for one in made:
        if one.file and (card := files.get(one.file)):
            cards[one.name] = configured(replace(with_own_defaults(card), name=one.name), one.config)
    spoken = [one for one in said if not one.defines]
    for one in spoken:
        if one.name in cards:
            cards[one.name] = configured(cards[one.name], one.config)
        else:
            problems[one.name] = "its configuration speaks of a model that is not here; name a 'file' or a 'base'"
    waiting = [one for one in made if one.base]
    for _ in range(LONGEST_CHAIN):
        ready = [one for one in waiting if one.base in cards and one.base not in {w.name for w in waiting}]
        for one in ready:
            base = cards[one.base]
            cards[one.name] = configured(replace(base, name=one.name, parent=base.name), one.config)
        waiting = [one for one in waiting if one not in ready]
    for one in waiting:
        problems[one.name] = f"it is made from '{one.base}', which is not here, or which is made from it"
        cards.pop(one.name, None)
    return Composed(cards, aliases_of(cards.values()), problems)


def with_own_defaults(card: ModelCard) -> ModelCard:
    """What the file itself recommends lies under everything else."""
    own = card.facts.sampling
    origins = {field.name: FILE for field in fields(Sampling) if getattr(own, field.name) != getattr(OPEN, field.name)}
    return replace(card, config=merged(ModelConfig(sampling=own, origins=origins), card.config))


def configured(card: ModelCard, config: ModelConfig) -> ModelCard:
    under = card.config
    if card.parent:
        # A name of its base's is the base's alone, as are words for people.
        under = replace(under, aliases=(), description="")
    both = merged(under, config)
    changed = replace(card, config=both, slots=both.slots, keep_alive=both.keep_alive)
    if config.pooling:
        changed = replace(
            changed, abilities=frozenset({Ability.EMBEDDING}), options={**card.options, "pooling": config.pooling}
        )
    return changed


def merged(under: ModelConfig, over: ModelConfig) -> ModelConfig:
    """Each field of `over` where it says something, else of `under`."""
    names = [field.name for field in fields(ModelConfig) if field.name not in ("sampling", "origins")]
    plain: dict[str, Any] = {name: chosen(under, over, name) for name in names}
    # An empty projector says that there is none, which is not the same as saying nothing.
    plain["projector"] = under.projector if over.projector is None else over.projector
    sampling = fill_sampling(over.sampling, under.sampling)
    return ModelConfig(**plain, sampling=sampling, origins={**under.origins, **over.origins})


def chosen(under: object, over: object, name: str) -> object:
    value = getattr(over, name)
    return getattr(under, name) if value in UNSET else value


def aliases_of(cards: Iterable[ModelCard]) -> dict[str, tuple[str, ...]]:
    """A name that several models want means the first of them that is there."""
    found: dict[str, tuple[str, ...]] = {}
    for card in sorted(cards, key=lambda card: card.name):
        for alias in card.config.aliases:
            found[alias] = (*found.get(alias, ()), card.name)
    return found
