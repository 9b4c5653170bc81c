"""Models: what the catalog knows of each, and what an engine needs to run one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from atrium.core.requests import Overflow, Sampling


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
    sampling: Sampling = Sampling()
    """What the file itself recommends."""
    architecture: str = ""
    parameters: int = 0
    """How many numbers the model has; 0 when unknown."""
    quantization: str = ""
    """As llama.cpp names it: `Q4_1`, `F16`."""
    metadata: Mapping[str, str | int | float | bool] = field(default_factory=dict[str, str | int | float | bool])
    """The file's other entries, without its lists and long texts."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """What is said of a model beside its file; None and empty: nothing is said, so the server's settings hold."""

    system: str | None = None
    """For a chat that brings no system message."""
    messages: tuple[tuple[str, str], ...] = ()
    """Role and text of what stands before every chat."""
    template: str | None = None
    """Jinja source instead of the file's own."""
    sampling: Sampling = Sampling()
    context: int | None = None
    """Tokens per slot."""
    slots: int | None = None
    threads: int | None = None
    keep_alive: float | None = None
    """Seconds; negative: for ever."""
    context_policy: Overflow | None = None
    """What becomes of a prompt that does not fit, where the request does not say."""
    aliases: tuple[str, ...] = ()
    pooling: str | None = None
    projector: str | None = None
    """Absolute path of the file through which the model sees; empty: none, whatever lies beside the model."""
    license: str = ""
    description: str = ""
    origins: Mapping[str, str] = field(default_factory=dict[str, str])
    """Name of a field, or of a field of `sampling`, to where it was said: `my-model.yaml:3`."""


@dataclass(frozen=True, slots=True)
class Said:
    """What one configuration says, and of which model."""

    name: str
    config: ModelConfig
    base: str = ""
    """Another model, of which this one is made."""
    file: str = ""
    """Absolute path of a GGUF file; empty: it speaks of a model that is here, or of `base`."""

    @property
    def defines(self) -> bool:
        """Without it there is no such model."""
        return bool(self.base or self.file)


@dataclass(frozen=True, slots=True)
class Projector:
    """The file through which a model sees or hears."""

    path: str
    size: int
    sees: bool
    hears: bool


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
    config: ModelConfig = ModelConfig()
    projector: Projector | None = None
    parent: str = ""
    """The model that this one was made from, where it was."""
    adopted: bool = False
    """Its files are another program's, or the user's own: read in place and never removed."""

    @property
    def runs_as(self) -> tuple[object, ...]:
        """All that its runner depends on: while it is equal, a loaded runner serves on."""
        said = self.config
        sight = self.projector.path if self.projector else ""
        return (self.engine, self.path, self.digest, self.options, said.context, self.slots, said.threads, sight)


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
    digest: str = ""
    """sha256 of the file, or one that stands for it as long as that is not known."""


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
    problems: Mapping[str, str] = field(default_factory=dict[str, str])
    """Name of a model to what is wrong with its file or its configuration."""


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
