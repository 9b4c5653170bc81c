"""From the name that a caller wrote to the model that answers. Source: contract `lollms.md`, section 3."""

from __future__ import annotations

from difflib import get_close_matches

from atrium.core.errors import InvalidValue, ModelLoading, ModelNotFound
from atrium.core.models import Ability, Catalog, Installing, ModelCard

LOCAL = "local/"
LATEST = ":latest"
"""Ollama's clients write this tag behind a name that has none of its own."""
BUILT_IN = {
    "text-embedding-3-small": Ability.EMBEDDING,
    "text-embedding-3-large": Ability.EMBEDDING,
    "text-embedding-ada-002": Ability.EMBEDDING,
    "whisper-1": Ability.TRANSCRIPTION,
    "tts-1": Ability.SPEECH,
}
"""Names that clients send when their user chose none; each means the default model of that kind."""
INSTALL_RETRY = 5.0
NEAREST = 3


def resolve_name(name: str, catalog: Catalog, ability: Ability) -> ModelCard:
    """The installed model that `name` means.

    An installed model's own name comes before an alias, an alias before what clients send by themselves. Raises
    ModelNotFound with the nearest names, ModelLoading while it is being installed, InvalidValue for another kind.
    """
    card = installed(name, catalog, ability)
    if card is None:
        raise missing(name, catalog, ability)
    if ability not in card.abilities and not (ability is Ability.COMPLETION and Ability.CHAT in card.abilities):
        able = ", ".join(sorted(a.value for a in card.abilities))
        raise InvalidValue(f"The model '{name}' is for {able}, not for {ability.value}", param="model")
    return card


def installed(name: str, catalog: Catalog, ability: Ability) -> ModelCard | None:
    for candidate in candidates(name, catalog, ability):
        if card := catalog.cards.get(candidate):
            return card
    return None


def installed_by_name(name: str, catalog: Catalog) -> ModelCard:
    """By its name or an alias, whatever it is for. Raises ModelNotFound, ModelLoading."""
    card = installed(name, catalog, Ability.CHAT) if name else None
    if card is None:
        raise missing(name, catalog, Ability.CHAT) if name else ModelNotFound("Name a model", param="model")
    return card


def candidates(name: str, catalog: Catalog, ability: Ability) -> tuple[str, ...]:
    """Names to look for, in order."""
    if not name:
        kind = Ability.CHAT if ability is Ability.COMPLETION else ability
        default = catalog.defaults.get(kind)
        return (default,) if default else ()
    names = [name, *catalog.aliases.get(name, ())]
    if name.startswith(LOCAL):
        names.append(name.removeprefix(LOCAL))
    if name.endswith(LATEST):
        names += [one.removesuffix(LATEST) for one in names if one.endswith(LATEST)]
    if name in BUILT_IN and (default := catalog.defaults.get(BUILT_IN[name])):
        names.append(default)
    return tuple(names)


def missing(name: str, catalog: Catalog, ability: Ability) -> ModelNotFound | ModelLoading:
    wanted = candidates(name, catalog, ability)
    for candidate in wanted:
        if under_way := catalog.installing.get(candidate):
            return not_yet(under_way)
    if not name:
        default = wanted[0] if wanted else None
        hint = f"Run: atrium models install {default}" if default else "Name a model"
        return ModelNotFound(f"No default model for {ability.value} is installed", hint=hint, param="model")
    if problem := next((catalog.problems[one] for one in wanted if one in catalog.problems), None):
        return ModelNotFound(f"The model '{name[:200]}' cannot be used: {problem}", param="model")
    known = [*catalog.cards, *catalog.aliases]
    near = get_close_matches(name, known, n=NEAREST, cutoff=0.5)
    hint = f"Did you mean {' or '.join(near)}?" if near else "GET /v1/models lists the names"
    return ModelNotFound(f"The model '{name[:200]}' does not exist", hint=hint, param="model")


def not_yet(under_way: Installing) -> ModelNotFound | ModelLoading:
    if under_way.stage == "failed":
        return ModelNotFound(
            f"The model '{under_way.name}' could not be installed: {under_way.error}",
            hint=f"Run: atrium models install {under_way.name}",
            param="model",
        )
    percent = f" ({100 * under_way.done // under_way.total} %)" if under_way.total else ""
    return ModelLoading(
        f"The model '{under_way.name}' is being installed: {under_way.stage}{percent}",
        hint="Ask again in a moment",
        param="model",
        retry_after=INSTALL_RETRY,
    )
