"""From what was found and what is in it to a model's card."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from atrium.core.models import Ability, ModelCard, ModelConfig, Projector
from atrium.core.requests import Sampling
from atrium.gallery.adopt import Found, Stamp
from atrium.gallery.inspected import Inspected

MODELFILE = "the Modelfile"
LATEST = ":latest"
NUMBERS = {
    "temperature": float,
    "top_p": float,
    "top_k": int,
    "min_p": float,
    "typical_p": float,
    "repeat_penalty": float,
    "repeat_last_n": int,
    "frequency_penalty": float,
    "presence_penalty": float,
    "seed": int,
}
"""Ollama's parameters that have the same name here."""
LEAST_CONTEXT = 256


def card_of(found: Found, inspected: Inspected, *, unstated_context: int) -> ModelCard:
    """`unstated_context` holds where the file does not say what context its model was trained for."""
    config = modelfile_of(found)
    if not inspected.facts.dimensions.trained_context and config.context is None:
        origins = {**config.origins, "context": "models.adopted_context"}
        config = replace(config, context=unstated_context, origins=origins)
    return ModelCard(
        name=found.name,
        engine="llamacpp",
        abilities=inspected.abilities,
        path=found.path,
        digest=found.digest or hashlib.sha256(repr(found.parts).encode()).hexdigest(),
        size=found.size,
        created=found.parts[0][2] // 1_000_000_000,
        facts=inspected.facts,
        source=found.path,
        options=inspected.options,
        config=config,
        adopted=True,
    )


def modelfile_of(found: Found) -> ModelConfig:
    """What Ollama's own parameters of a model come to; the ones that mean nothing here are left out."""
    given: Mapping[str, object] = dict(found.parameters)
    sampled: dict[str, Any] = {
        name: kind(value) for name, kind in NUMBERS.items() if (value := number_of(given.get(name))) is not None
    }
    longest = number_of(given.get("num_predict"))
    if longest is not None and longest > 0:
        sampled["max_tokens"] = int(longest)
    stop = given.get("stop")
    stops = tuple(cast("list[str]", stop)) if isinstance(stop, list) else (stop,) if isinstance(stop, str) else ()
    window = number_of(given.get("num_ctx"))
    context = int(window) if window is not None and window >= LEAST_CONTEXT else None
    origins = dict.fromkeys(sampled, MODELFILE)
    if stops:
        origins["stop"] = MODELFILE
    if context:
        origins["context"] = MODELFILE
    if found.system:
        origins["system"] = MODELFILE
    if found.messages:
        origins["messages"] = MODELFILE
    return ModelConfig(
        system=found.system or None,
        messages=found.messages,
        sampling=Sampling(**sampled, stop=tuple(text for text in stops if text)),
        context=context,
        aliases=(found.name.removesuffix(LATEST),) if found.name.endswith(LATEST) else (),
        license=found.license,
        origins=origins,
    )


def number_of(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def choose_projector(card: ModelCard, beside: Sequence[tuple[Stamp, Inspected]]) -> tuple[Projector | None, str]:
    """The projector that belongs to a model, or why none of those beside it does."""
    able = [(stamp, one) for stamp, one in beside if one.kind == "projector" and (one.sees or one.hears)]
    length = card.facts.dimensions.embedding_length
    fitting = [(stamp, one) for stamp, one in able if length in one.widths]
    if not fitting:
        names = ", ".join(Path(stamp[0]).name for stamp, _ in able)
        return None, f"{names} hands out no vectors of {length} numbers, which this model takes" if able else ""

    def likeness(pair: tuple[Stamp, Inspected]) -> int:
        own = Path(card.path).name.lower()
        other = Path(pair[0][0]).name.lower().replace("mmproj", "").strip("-_.")
        return next((i for i, (a, b) in enumerate(zip(own, other, strict=False)) if a != b), min(len(own), len(other)))

    stamp, one = max(fitting, key=likeness)
    return Projector(stamp[0], stamp[1], one.sees, one.hears), ""


def with_projector(card: ModelCard, projector: Projector) -> ModelCard:
    """The model with its projector, and able to do what that lets it."""
    seeing = {Ability.VISION} if projector.sees else set[Ability]()
    return replace(card, projector=projector, abilities=card.abilities | seeing)
