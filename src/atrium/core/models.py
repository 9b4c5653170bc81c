"""Models: what the catalog knows of each, and what an engine needs to run one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class Ability(Enum):
    """What a model is for; a model may have several."""

    CHAT = "chat"
    COMPLETION = "completion"
    EMBEDDING = "embedding"
    RERANK = "rerank"
    VISION = "vision"
    SPEECH = "speech"
    TRANSCRIPTION = "transcription"
    IMAGE = "image"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What prompt building must know of a model's tokenizer."""

    size: int
    control: Mapping[str, int]
    """Text of each control token to its id."""
    bos: int | None = None
    eos: int | None = None
    add_bos: bool = False
    add_eos: bool = False
    """For embedding models these two wrap every input (CLS and SEP)."""


@dataclass(frozen=True, slots=True)
class Dimensions:
    """The dimensions that memory is estimated from. Lengths in tokens, sizes in bytes."""

    trained_context: int
    layers: int
    kv_heads: int
    key_length: int
    value_length: int
    embedding_length: int
    tensor_bytes: int


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Read once from the model's file when it is installed, and kept in its manifest."""

    vocabulary: Vocabulary
    dimensions: Dimensions
    chat_template: str = ""
    """Jinja source; empty where the file has none."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """One installed model. It is listed when, and only when, all its files are whole."""

    name: str
    engine: str
    """Which recipe runs it: `llamacpp`, `fake`."""
    abilities: frozenset[Ability]
    path: str
    """Absolute path of the weights; for `fake` the address `fake:NAME?…` itself."""
    digest: str
    """sha256 of the weights in hex."""
    size: int
    created: int
    """Unix seconds of the installation; stable."""
    facts: ModelFacts
    source: str = ""
    """Where it came from, as an address that `models install` takes."""
    options: Mapping[str, str] = field(default_factory=dict[str, str])
    """Engine options of this model: pooling, faults of the fake, ..."""
    keep_alive: float | None = None
    """Seconds it stays loaded without a request; negative: for ever. None: as the settings say."""
    slots: int | None = None
    """Answers at the same time. None: as the settings say."""


@dataclass(frozen=True, slots=True)
class Installing:
    """A model that is on its way; not listed, and not unknown either."""

    name: str
    stage: str
    """`waiting`, `downloading`, `verifying`, `converting`, `inspecting`, `failed`."""
    done: int = 0
    total: int = 0
    """Bytes of the present stage; total 0 when unknown."""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Available:
    """A model that can be installed by its name."""

    name: str
    description: str
    licence: str
    size: int
    """Bytes that are fetched."""
    abilities: frozenset[Ability]
    installed: bool


@dataclass(frozen=True, slots=True)
class Catalog:
    """A frozen picture of all names a caller may use."""

    cards: Mapping[str, ModelCard]
    installing: Mapping[str, Installing] = field(default_factory=dict[str, Installing])
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    defaults: Mapping[Ability, str] = field(default_factory=dict[Ability, str])
    """The default model of each ability, whether it is installed yet or not."""


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A model as a caller may name it, wherever it runs."""

    name: str
    binding: str
    """`local`, or the name of the endpoint."""
    ability: Ability
    """What it is for in the first place."""
    created: int
    """Unix seconds, at least 1."""
    owner: str
