"""Models and embeddings as Ollama's clients read them. Source: contract `ollama.md`, sections 5 and 6."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from atrium.core.answers import Usage, Vectors
from atrium.core.endpoints import Offered
from atrium.core.models import Ability, ModelCard
from atrium.core.requests import Sampling
from atrium.dialects.ollama.answer import nanoseconds

Json = dict[str, Any]
VERSION = "0.20.0"
"""Level of Ollama's API that is spoken here; clients compare it."""
LATEST = ":latest"
PARAMETERS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "typical_p": "typical_p",
    "repeat_penalty": "repeat_penalty",
    "repeat_last_n": "repeat_last_n",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "seed": "seed",
    "num_predict": "max_tokens",
}
"""Ollama's name of each setting, and ours."""
NO_LISTS: Mapping[str, bytes] = {}
UNITS = ((1_000_000_000_000, "T"), (1_000_000_000, "B"), (1_000_000, "M"), (1_000, "K"))


@dataclass(frozen=True, slots=True)
class Details:
    parent: str = ""
    form: str = "gguf"
    family: str = ""
    parameters: str = ""
    quantization: str = ""

    def members(self) -> Json:
        families = [self.family] if self.family else []
        return {
            "parent_model": self.parent,
            "format": self.form,
            "family": self.family,
            "families": families,
            "parameter_size": self.parameters,
            "quantization_level": self.quantization,
        }


@dataclass(frozen=True, slots=True)
class Entry:
    """A model as the lists show it."""

    name: str
    modified: str
    size: int
    digest: str
    details: Details
    capabilities: tuple[str, ...]

    def members(self) -> Json:
        name = tagged(self.name)
        return {
            "name": name,
            "model": name,
            "modified_at": self.modified,
            "size": self.size,
            "digest": self.digest,
            "details": self.details.members(),
            "capabilities": list(self.capabilities),
        }


def tagged(name: str) -> str:
    """Lists always show the tag."""
    return name if ":" in name.rpartition("/")[2] else name + LATEST


def plain(name: str) -> str:
    """The same name without the tag that may be left out."""
    return name.removesuffix(LATEST)


def offered_entry(offered: Offered, modified: str) -> Entry:
    """A model of an endpoint elsewhere."""
    details = Details("", "gguf", offered.family, offered.parameter_size, offered.quantization)
    digest = offered.digest.removeprefix("sha256:") or hashlib.sha256(offered.name.encode()).hexdigest()
    return Entry(offered.name, modified, offered.size, digest, details, offered_capabilities(offered))


def offered_capabilities(offered: Offered) -> tuple[str, ...]:
    if offered.type == "embeddings":
        return ("embedding",)
    return ("completion", "vision") if offered.type == "vlm" else ("completion",)


def tags_body(entries: Sequence[Entry]) -> bytes:
    return orjson.dumps({"models": [entry.members() for entry in entries]})


def with_entries(listed: bytes, entries: Sequence[Entry]) -> bytes:
    """An object of another dialect's with the member that `tags` has beside its own."""
    models = orjson.dumps([entry.members() for entry in entries])
    return listed.removesuffix(b"}") + b',"models":' + models + b"}"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in memory."""

    entry: Entry
    expires: str
    context: int

    def members(self) -> Json:
        told = self.entry.members()
        del told["modified_at"], told["capabilities"]
        return told | {"expires_at": self.expires, "size_vram": 0, "context_length": self.context}


def running_body(loaded: Sequence[Loaded]) -> bytes:
    return orjson.dumps({"models": [one.members() for one in loaded]})


def version_body() -> bytes:
    return orjson.dumps({"version": VERSION})


def embed_body(vectors: Vectors, seconds: float) -> bytes:
    """`seconds`: what the whole request took."""
    return orjson.dumps(
        {
            "model": vectors.model,
            "embeddings": [numbers(raw) for raw in vectors.vectors],
            "total_duration": nanoseconds(seconds),
            "load_duration": nanoseconds(vectors.timing.loaded),
            "prompt_eval_count": vectors.usage.prompt_tokens,
        }
    )


def nothing_embedded(model: str, seconds: float) -> bytes:
    return embed_body(Vectors(model, (), Usage()), seconds)


def embedding_body(vectors: Vectors | None) -> bytes:
    """The old route's: one vector."""
    return orjson.dumps({"embedding": numbers(vectors.vectors[0]) if vectors else []})


def numbers(raw: bytes) -> list[float]:
    return array("f", raw).tolist()


def parameter_size(count: int) -> str:
    """Empty when unknown."""
    for unit, name in UNITS:
        if count >= unit:
            return f"{count / unit:.2f}".rstrip("0").rstrip(".") + name
    return str(count) if count else ""


def parameters_text(sampling: Sampling, context: int | None) -> str:
    """Lines of names and values, the context first."""
    told: list[tuple[str, object]] = [("num_ctx", context)] if context else []
    told += [(name, value) for name, own in PARAMETERS.items() if (value := getattr(sampling, own)) is not None]
    told += [("stop", orjson.dumps(stop).decode()) for stop in sampling.stop]
    return "\n".join(f"{name:<30} {value}" for name, value in told)


def capabilities(card: ModelCard, *, tools: bool, thinking: bool) -> tuple[str, ...]:
    """`tools`, `thinking`: what the model's template knows."""
    if Ability.EMBEDDING in card.abilities:
        return ("embedding",)
    found = ["completion"] if card.abilities & {Ability.CHAT, Ability.COMPLETION} else []
    found += ["tools"] if tools and found else []
    found += ["vision"] if Ability.VISION in card.abilities else []
    found += ["thinking"] if thinking and found else []
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Shown:
    """What `show` tells of a model."""

    entry: Entry
    model_info: Mapping[str, object]
    template: str = ""
    system: str = ""
    parameters: str = ""
    license: str = ""
    modelfile: str = ""
    messages: Sequence[Mapping[str, str]] = ()


def show_body(shown: Shown, lists: Mapping[str, bytes] = NO_LISTS) -> bytes:
    """`lists`: entries of the model's file as JSON, which are told instead of a null."""
    told: Json = {
        "license": shown.license,
        "modelfile": shown.modelfile,
        "parameters": shown.parameters,
        "template": shown.template,
        "system": shown.system,
        "details": shown.entry.details.members(),
        "model_info": {**shown.model_info, **{name: orjson.Fragment(value) for name, value in lists.items()}},
        "capabilities": list(shown.entry.capabilities),
        "modified_at": shown.entry.modified,
    }
    if shown.messages:
        told["messages"] = [dict(message) for message in shown.messages]
    return orjson.dumps(told)


def modelfile(base: str, template: str, system: str, parameters: str) -> str:
    """The text that would make the model anew."""
    lines = [f"FROM {base}"]
    lines += [f'TEMPLATE """{template}"""'] if template else []
    lines += [f'SYSTEM """{system}"""'] if system else []
    lines += [f"PARAMETER {' '.join(line.split(maxsplit=1))}" for line in parameters.splitlines()]
    return "\n".join(lines)
