"""What a caller asks for, in words that no dialect owns.

A dialect parses its bytes into these once, at the edge; inside, a value that exists is a value that is right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]


class Dialect(Enum):
    """A wire format for inference."""

    OPENAI = "openai"
    OLLAMA = "ollama"
    ANTHROPIC = "anthropic"
    LLAMACPP = "llamacpp"


class Role(Enum):
    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class Media:
    """An image, sound or file as it came: `url` is a data URI or an address, never fetched by the parser."""

    kind: Literal["image", "audio", "video", "file"]
    url: str
    place: str
    """Path of the part in the request, for errors: `messages[0].content[1]`."""
    detail: str = ""
    """How closely an image is to be looked at, as the caller wrote it."""
    at: int = 0
    """How many characters of its message's text stand before it."""
    data: bytes = field(default=b"", repr=False)
    """The file, read and checked; empty until then."""
    name: str = ""
    """A file's, as the caller calls it."""
    uploaded: str = ""
    """Id of a file that was uploaded before; `url` is empty then."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    id: str
    name: str
    arguments: str
    """A JSON object as text, exactly as the model or the caller wrote it."""


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    text: str = ""
    """All text parts, joined in order."""
    media: tuple[Media, ...] = ()
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    """For role TOOL: the call that this answers."""
    thinking: str = ""
    """What the assistant thought before it answered."""


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    description: str
    parameters: Mapping[str, JsonValue]
    """A JSON schema of type object; `{}` when the caller gave none."""
    strict: bool = False


MOST_CALLS = 8


class ToolMode(Enum):
    NONE = "none"
    AUTO = "auto"
    REQUIRED = "required"
    NAMED = "named"


@dataclass(frozen=True, slots=True)
class ToolUse:
    """Which tools may be called and how; `name` is set for NAMED only."""

    tools: tuple[Tool, ...] = ()
    mode: ToolMode = ToolMode.AUTO
    name: str | None = None
    most_calls: int = MOST_CALLS
    """Calls in one answer: a small model that may call for ever does."""
    legacy: bool = False
    """The caller used the old `functions` form and wants `function_call` back."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen. None means the model's own default."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repeat_penalty: float | None = None
    repeat_last_n: int | None = None
    """Over how many tokens `repeat_penalty` looks back; -1: the window."""
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict[int, float])
    min_tokens: int = 0
    """The answer does not end by itself before."""
    ignore_eos: bool = False
    """The answer does not end by itself at all."""
    max_tokens: int | None = None
    """None: until the window is full."""
    stop: tuple[str, ...] = ()

    def seed_of(self, choice: int) -> int | None:
        """Each choice's own, so that several differ."""
        return None if self.seed is None else self.seed + choice


@dataclass(frozen=True, slots=True)
class FreeText:
    pass


@dataclass(frozen=True, slots=True)
class JsonObject:
    """Any one JSON object."""


@dataclass(frozen=True, slots=True)
class JsonSchema:
    schema: JsonValue
    place: str = "response_format"
    """The request field to name when the schema is refused."""
    strict: bool = False
    """A keyword that cannot be enforced is refused; otherwise it is dropped and named."""


@dataclass(frozen=True, slots=True)
class Gbnf:
    """A grammar in llama.cpp's notation."""

    text: str


Constraint = FreeText | JsonObject | JsonSchema | Gbnf


class Think(Enum):
    """Whether, and how hard, a model thinks before it answers."""

    OFF = "off"
    ON = "on"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


Overflow = Literal["refuse", "left", "middle", "summarize"]
"""An error, or whole turns are left out, the oldest or the middle ones; never the system's nor the last."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """Wishes about how the engine runs the model, by the names that the caller gave them."""

    context: int | None = None
    """Tokens of the window that the model is to be loaded with; None: as it is configured."""
    hints: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    """Given, and without any bearing on the answer: threads, batches, GPU layers."""
    samplers: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    """Given, and of bearing on the answer, where only the engine itself may know them: mirostat."""
    shift: bool = True
    """An answer that fills the window may go on, if the engine then forgets its start."""

    @property
    def unmet(self) -> tuple[str, ...]:
        """What the engines here have no use for."""
        return (*self.hints, *self.samplers)


@dataclass(frozen=True, slots=True)
class Grounding:
    """Document stores that an answer is to stand on."""

    stores: tuple[str, ...]
    """Ids or names."""
    top_k: int


@dataclass(frozen=True, slots=True)
class Chat:
    """One chat, whole and checked."""

    model: str
    """As the caller wrote it; empty for the default chat model."""
    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    tool_use: ToolUse = ToolUse()
    constraint: Constraint = FreeText()
    choices: int = 1
    stream: bool = False
    include_usage: bool = False
    top_logprobs: int | None = None
    """None: no logprobs; 0: the chosen token alone."""
    template: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    """Extra variables for the model's chat template."""
    store: bool = False
    """The answer is kept for later reading."""
    user: str = ""
    """Whom the caller asks for, in the caller's words."""
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    fields: tuple[str, ...] = ()
    """Names of the request's fields in their order."""
    keep_alive: float | None = None
    """Seconds the model stays loaded after this answer; negative: for ever; None: the model's setting."""
    dropped: tuple[str, ...] = ()
    """Fields that are not honoured and not harmful, in request order."""
    think: Think | None = None
    """None: as the model is used to."""
    defaults: Sampling = Sampling()
    """The dialect's own defaults, for what `sampling` leaves open; an endpoint elsewhere has its own."""
    tuning: Tuning = Tuning()
    context: tuple[int, ...] = ()
    """Token ids of an earlier answer that this chat goes on from."""
    wants_context: bool = False
    """The last event carries the token ids of prompt and answer."""
    overflow: Overflow | None = None
    """What the caller wants to become of a prompt that does not fit; None: what the model's settings say."""
    usual_overflow: Overflow | None = None
    """What the dialect's clients are used to, where neither the caller nor the model's settings say."""
    prompt_template: str = ""
    """A template of the caller's, in Ollama's notation, in place of the model's own."""
    dialect: Dialect = Dialect.OPENAI
    """Which one it was written in."""
    grounding: Grounding | None = None
    personality: str = ""
    """Id of the one whose manner the answer is to have."""


Prompt = str | tuple[int, ...]
"""Text, or token ids of the model's own tokenizer."""


@dataclass(frozen=True, slots=True)
class Completion:
    """Raw text completion of one or several prompts."""

    model: str
    prompts: tuple[Prompt, ...]
    sampling: Sampling = Sampling()
    constraint: Constraint = FreeText()
    choices: int = 1
    best_of: int = 1
    echo: bool = False
    stream: bool = False
    include_usage: bool = False
    top_logprobs: int | None = None
    user: str = ""
    keep_alive: float | None = None
    dropped: tuple[str, ...] = ()
    defaults: Sampling = Sampling()
    tuning: Tuning = Tuning()
    fields: tuple[str, ...] = ()
    suffix: str = ""
    """What is to follow the text that the model fills in."""
    raw: bool = False
    """The caller's dialect would have put the prompt into the model's template, but was asked not to."""
    images: tuple[Media, ...] = ()
    dialect: Dialect = Dialect.OPENAI


@dataclass(frozen=True, slots=True)
class Embed:
    model: str
    inputs: tuple[Prompt, ...]
    dimensions: int | None = None
    truncate: bool = False
    keep_alive: float | None = None
    dropped: tuple[str, ...] = ()
    tuning: Tuning = Tuning()
    dialect: Dialect = Dialect.OPENAI
