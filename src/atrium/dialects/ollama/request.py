"""From the bytes of a request to its words. Source: contract `ollama.md`, sections 1 to 5."""

from __future__ import annotations

from dataclasses import dataclass

from atrium.core.errors import InvalidValue
from atrium.core.requests import Chat, Completion, Dialect, Embed, JsonValue, Message, Overflow, Role
from atrium.dialects.bounds import RequestBounds
from atrium.dialects.fields import Fields
from atrium.dialects.json_text import parse_object
from atrium.dialects.ollama.messages import read_images, read_messages, read_tools
from atrium.dialects.ollama.options import DEFAULTS, read_format, read_keep_alive, read_options, read_think

MOST_LOGPROBS = 20
INT32 = 2**31 - 1
MOST_CONTEXT = 2**22
"""Token ids."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A chat or a generation. Without words it only loads the model, or with a `keep_alive` of 0 unloads it."""

    said: Chat | Completion
    wordless: bool


@dataclass(frozen=True, slots=True)
class EmbedAsk:
    """`embed` is None where there is nothing to embed."""

    model: str
    embed: Embed | None


def parse_body(raw: bytes, bounds: RequestBounds) -> Fields:
    """Raises InvalidJson, InvalidValue."""
    if not raw.strip():
        raise InvalidValue("missing request body")
    return Fields(parse_object(raw, depth=bounds.depth, items=bounds.items))


def parse_model(fields: Fields) -> str:
    """Raises InvalidValue."""
    name = fields.text("model") or fields.text("name")
    if not name:
        raise InvalidValue("model is required", param="model")
    return name


def parse_chat(raw: bytes, bounds: RequestBounds) -> Ask:
    """Raises InvalidJson, InvalidValue."""
    fields = parse_body(raw, bounds)
    model = parse_model(fields)
    messages = read_messages(fields.items("messages", bounds.messages) or ())
    options = read_options(fields)
    chat = Chat(
        model=model,
        messages=messages,
        sampling=options.sampling,
        tool_use=read_tools(fields, bounds.tools),
        constraint=read_format(fields),
        stream=fields.flag("stream", default=True),
        top_logprobs=read_logprobs(fields),
        keep_alive=read_keep_alive(fields),
        think=read_think(fields),
        defaults=DEFAULTS,
        tuning=options.tuning,
        overflow=read_overflow(fields),
        usual_overflow="left",
        dialect=Dialect.OLLAMA,
    )
    return Ask(chat, not messages)


def parse_generate(raw: bytes, bounds: RequestBounds) -> Ask:
    """Raises InvalidJson, InvalidValue."""
    fields = parse_body(raw, bounds)
    if fields.flag("raw"):
        for name in ("template", "system", "context"):
            if fields.raw(name):
                raise InvalidValue("raw mode does not support template, system, or context", param=name)
    prompt = fields.text("prompt") or ""
    filled = fields.flag("raw") or bool(fields.text("suffix"))
    wordless = not prompt and not fields.text("suffix") and not fields.items("images", INT32)
    return Ask((generation if filled else conversation)(fields, prompt), wordless)


def generation(fields: Fields, prompt: str) -> Completion:
    """A prompt that no chat template is to touch, or a gap to fill."""
    options = read_options(fields)
    return Completion(
        model=parse_model(fields),
        prompts=(prompt,),
        sampling=options.sampling,
        constraint=read_format(fields),
        stream=fields.flag("stream", default=True),
        top_logprobs=read_logprobs(fields),
        keep_alive=read_keep_alive(fields),
        defaults=DEFAULTS,
        tuning=options.tuning,
        suffix=fields.text("suffix") or "",
        raw=fields.flag("raw"),
        images=read_images(fields, "images"),
        dialect=Dialect.OLLAMA,
    )


def conversation(fields: Fields, prompt: str) -> Chat:
    options = read_options(fields)
    system = fields.text("system")
    messages = [Message(Role.SYSTEM, system)] if system else []
    messages.append(Message(Role.USER, prompt, read_images(fields, "images")))
    return Chat(
        model=parse_model(fields),
        messages=tuple(messages),
        sampling=options.sampling,
        constraint=read_format(fields),
        stream=fields.flag("stream", default=True),
        top_logprobs=read_logprobs(fields),
        keep_alive=read_keep_alive(fields),
        think=read_think(fields),
        defaults=DEFAULTS,
        tuning=options.tuning,
        context=read_context(fields),
        wants_context=True,
        overflow=read_overflow(fields),
        usual_overflow="left",
        prompt_template=fields.text("template") or "",
        dialect=Dialect.OLLAMA,
    )


def read_overflow(fields: Fields) -> Overflow | None:
    """`truncate` is true unless said, and what is not said leaves the model's own settings their say."""
    if fields.raw("truncate") is None:
        return None
    return "left" if fields.flag("truncate") else "refuse"


def read_context(fields: Fields) -> tuple[int, ...]:
    ids: list[int] = []
    for item in fields.items("context", MOST_CONTEXT) or ():
        if isinstance(item, bool) or not isinstance(item, int) or not 0 <= item <= INT32:
            raise InvalidValue("'context' must be a list of token ids, as a former answer gave it", param="context")
        ids.append(item)
    return tuple(ids)


def read_logprobs(fields: Fields) -> int | None:
    """`top_logprobs` alone asks for them, too."""
    top = fields.integer("top_logprobs", 0, MOST_LOGPROBS)
    return top or 0 if fields.flag("logprobs") or top else None


def parse_embed(raw: bytes, bounds: RequestBounds) -> EmbedAsk:
    """Raises InvalidJson, InvalidValue."""
    fields = parse_body(raw, bounds)
    inputs = read_inputs(fields.raw("input"), bounds.inputs)
    return embed_ask(fields, inputs, truncate=fields.flag("truncate", default=True))


def parse_embeddings(raw: bytes, bounds: RequestBounds) -> EmbedAsk:
    """The old route: one `prompt`. Raises InvalidJson, InvalidValue."""
    fields = parse_body(raw, bounds)
    prompt = fields.text("prompt")
    return embed_ask(fields, (prompt,) if prompt else (), truncate=True)


def embed_ask(fields: Fields, inputs: tuple[str, ...], *, truncate: bool) -> EmbedAsk:
    model = parse_model(fields)
    if not inputs:
        return EmbedAsk(model, None)
    embed = Embed(
        model=model,
        inputs=inputs,
        dimensions=fields.integer("dimensions", 0, INT32) or None,
        truncate=truncate,
        keep_alive=read_keep_alive(fields),
        tuning=read_options(fields).tuning,
        dialect=Dialect.OLLAMA,
    )
    return EmbedAsk(model, embed)


def read_inputs(value: JsonValue, most: int) -> tuple[str, ...]:
    """An empty text alone counts as nothing. Raises InvalidValue."""
    if value is None or value == "":
        return ()
    items = value if isinstance(value, list) else [value]
    texts = [item for item in items if isinstance(item, str)]
    if len(texts) < len(items):
        raise InvalidValue("invalid input type", param="input")
    if len(texts) > most:
        raise InvalidValue(f"'input' has {len(texts)} items; at most {most} are taken", param="input")
    return tuple(texts)
