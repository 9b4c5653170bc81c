"""Models by type, capabilities and personalities as LoLLMs' clients read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import orjson

from atrium.core.models import Ability, NamedModel
from atrium.settings.personalities import PersonalitySettings

TYPES: Mapping[str, frozenset[Ability]] = {
    "llm": frozenset({Ability.CHAT, Ability.VISION, Ability.COMPLETION}),
    "tti": frozenset({Ability.IMAGE}),
    "tts": frozenset({Ability.SPEECH}),
    "stt": frozenset({Ability.TRANSCRIPTION}),
    "ttv": frozenset(),
    "ttm": frozenset(),
    "rag": frozenset({Ability.EMBEDDING}),
}
"""Nothing here makes video or music."""
OWNER = "admin"
"""Of what stands in the configuration."""
BINDING_TYPES = ("llm", "tti", "tts", "stt", "rag")


def typed(models: Sequence[NamedModel], kind: str) -> tuple[NamedModel, ...]:
    """`kind`: a key of TYPES."""
    return tuple(model for model in models if model.ability in TYPES[kind])


def models_body(models: Sequence[NamedModel]) -> bytes:
    """Each under the name that pins it to its binding."""
    rows = [
        {
            "id": f"{model.binding}/{model.name}",
            "name": model.name,
            "model_name": model.name,
            "binding": model.binding,
            "object": "model",
        }
        for model in models
    ]
    return orjson.dumps({"object": "list", "data": rows})


def capabilities_body(models: Sequence[NamedModel]) -> bytes:
    """What works now."""
    bindings = {kind: list(dict.fromkeys(model.binding for model in typed(models, kind))) for kind in BINDING_TYPES}
    able = (
        ("tokenize", True),
        ("detokenize", True),
        ("long_context_processing", bool(bindings["llm"])),
        ("rag_query", bool(bindings["rag"])),
        ("text_to_speech", bool(bindings["tts"])),
        ("speech_to_text", bool(bindings["stt"])),
        ("image_generation", bool(bindings["tti"])),
        ("image_editing", bool(bindings["tti"])),
    )
    return orjson.dumps({"capabilities": [name for name, works in able if works], "active_bindings": bindings})


def personalities_body(known: Sequence[PersonalitySettings], since: datetime) -> bytes:
    rows = [
        {
            "id": one.id,
            "object": "personality",
            "name": one.name or one.id,
            "category": one.category,
            "author": one.author,
            "description": one.description,
            "is_public": True,
            "owner_username": OWNER,
            "created_at": since.isoformat().replace("+00:00", "Z"),
        }
        for one in known
    ]
    return orjson.dumps({"object": "list", "data": rows})
