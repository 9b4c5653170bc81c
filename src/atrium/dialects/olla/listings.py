"""Models of all endpoints as one list, in the formats that clients know. Source: `olla.md`, sections 3.3, 4.2."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import orjson

from atrium.core.endpoints import ROUTABLE, Health, Offered
from atrium.core.errors import InvalidFormat
from atrium.core.kinds import KINDS
from atrium.dialects.olla.words import stamp

Json = dict[str, Any]
FORMATS = ("unified", "openai", "ollama", "lmstudio", "vllm")
SPELLED = {"lm-studio": "lmstudio", "lm_studio": "lmstudio"}
TYPES = {
    "vision": "vlm",
    "multimodal": "vlm",
    "embedding": "embeddings",
    "embeddings": "embeddings",
    "vector_search": "embeddings",
    "chat": "llm",
    "text_generation": "llm",
    "completion": "llm",
}
"""The old spelling of a model's type."""
ABILITIES = {"llm": ["chat", "completion"], "vlm": ["chat", "completion", "vision"], "embeddings": ["embeddings"]}
VARIANT = re.compile(r"^[a-z]+-?v?(\d+(?:\.\d+)*)", re.IGNORECASE)
PARAMETERS = re.compile(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)b(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Source:
    """One endpoint's offer of a model."""

    endpoint: str
    kind: str
    health: Health
    offered: Offered

    @property
    def state(self) -> str:
        if self.health is Health.UNKNOWN:
            return "unknown"
        if self.health not in ROUTABLE:
            return "offline"
        return "loaded" if self.offered.loaded else "available"


@dataclass(frozen=True, slots=True)
class Unified:
    """A model with all its sources, the one that speaks for it first."""

    name: str
    sources: tuple[Source, ...]
    aliases: tuple[str, ...] = ()

    @property
    def best(self) -> Offered:
        return self.sources[0].offered

    @property
    def routable(self) -> bool:
        return any(source.health in ROUTABLE for source in self.sources)

    @property
    def family(self) -> str:
        return next((source.offered.family for source in self.sources if source.offered.family), "")


def unify(sources: Sequence[Source], aliases: Mapping[str, Sequence[str]]) -> tuple[Unified, ...]:
    """`sources` in order of who speaks for a model. Names that differ in case, or in Ollama's `:latest`, are one."""
    groups: dict[str, list[Source]] = {}
    for source in sorted(sources, key=lambda source: source.health not in ROUTABLE):
        groups.setdefault(folded(source), []).append(source)
    other: dict[str, list[str]] = {}
    for alias, targets in aliases.items():
        for target in targets:
            other.setdefault(target.casefold(), []).append(alias)
    models = [Unified(own[0].offered.name, tuple(own), tuple(other.get(key, ()))) for key, own in groups.items()]
    return tuple(sorted(models, key=lambda model: model.name))


def folded(source: Source) -> str:
    name = source.offered.name.casefold()
    return name.removesuffix(":latest") if source.kind == "ollama" else name


def read_format(text: str) -> str:
    """Raises InvalidFormat."""
    form = SPELLED.get(text.lower(), text.lower()) or "unified"
    if form not in FORMATS:
        raise InvalidFormat(f"There is no format '{text[:50]}'", hint=f"Known: {', '.join(FORMATS)}", param="format")
    return form


def listing(models: Sequence[Unified], form: str) -> Json:
    entries = [entry(model, form) for model in models]
    return {"models": entries} if form == "ollama" else {"object": "list", "data": entries}


def entry(model: Unified, form: str) -> Json:
    return WRITERS[form](model)


def unified_entry(model: Unified) -> Json:
    best = model.best
    variant = VARIANT.match(best.name.rpartition("/")[2])
    names = dict.fromkeys([*(source.offered.name for source in model.sources), *model.aliases])
    told: Json = {
        "family": model.family,
        "variant": variant[1] if variant else "",
        "parameter_size": best.parameter_size or parameters(best.name),
        "quantization": best.quantization,
        "aliases": list(names),
        "availability": [{"endpoint": source.endpoint, "state": source.state} for source in model.sources],
        "capabilities": ABILITIES[best.type],
        "provider": model.sources[0].kind,
    }
    if best.context:
        told["max_context_length"] = best.context
    if best.size:
        told["size"] = best.size
    if best.created:
        told["modified_at"] = stamp(best.created)
    return {"id": model.name, "object": "model", "created": best.created, "owned_by": "olla", "olla": told}


def parameters(name: str) -> str:
    found = PARAMETERS.search(name)
    return f"{found[1]}B" if found else ""


def openai_entry(model: Unified) -> Json:
    owner = model.best.owner or model.sources[0].kind
    return {"id": model.name, "object": "model", "created": model.best.created, "owned_by": owner}


def lmstudio_entry(model: Unified) -> Json:
    best = model.best
    shown: Json = {
        "id": model.name,
        "object": "model",
        "type": best.type,
        "publisher": best.owner,
        "arch": model.family,
        "quantization": best.quantization,
        "state": "loaded" if best.loaded else "not-loaded",
    }
    if best.context:
        shown["max_context_length"] = best.context
    return own_words(model, "lmstudio") | shown


def vllm_entry(model: Unified) -> Json:
    permission: list[Json] = []
    shown = openai_entry(model) | {"root": model.name, "parent": None, "permission": permission}
    if model.best.context:
        shown["max_model_len"] = model.best.context
    return own_words(model, "vllm") | shown


def ollama_entry(model: Unified) -> Json:
    best = model.best
    details: Json = {
        "parent_model": "",
        "format": "gguf",
        "family": model.family,
        "families": [model.family] if model.family else [],
        "parameter_size": best.parameter_size or parameters(best.name),
        "quantization_level": best.quantization,
    }
    shown: Json = {"name": model.name, "model": model.name, "modified_at": stamp(best.created) or stamp(1)}
    shown |= {"size": best.size, "digest": best.digest, "details": details}
    return shown | own_words(model, "ollama")


def own_words(model: Unified, kind: str) -> Json:
    """What the endpoint itself said of the model, where it speaks this format."""
    first = model.sources[0]
    if first.kind != kind or kind not in KINDS or not first.offered.raw:
        return {}
    return cast("Json", orjson.loads(first.offered.raw))


WRITERS: Mapping[str, Callable[[Unified], Json]] = {
    "unified": unified_entry,
    "openai": openai_entry,
    "ollama": ollama_entry,
    "lmstudio": lmstudio_entry,
    "vllm": vllm_entry,
}
