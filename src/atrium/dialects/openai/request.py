"""From the bytes of a request to its words. Each parser reads the whole body and refuses what it cannot mean."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from atrium.core.errors import InvalidValue, Unsupported
from atrium.core.requests import (
    Chat,
    Completion,
    Embed,
    Grounding,
    JsonValue,
    Overflow,
    Prompt,
    Think,
)
from atrium.dialects.bounds import RequestBounds
from atrium.dialects.fields import Fields, as_fields, wrong
from atrium.dialects.json_text import parse_object
from atrium.dialects.openai.constraint import read_constraint
from atrium.dialects.openai.field_table import CHAT, COMPLETION, known_names
from atrium.dialects.openai.messages import read_messages
from atrium.dialects.openai.metadata import read_metadata
from atrium.dialects.openai.sampling import INT32, read_sampling
from atrium.dialects.openai.tools import read_tool_use

MOST_CHOICES = 16
MOST_LOGPROBS = 20
MOST_STORES = 16
PASSAGES, MOST_PASSAGES = 5, 100
"""How many passages of document stores an answer stands on, unless it is said, and at most."""
GROUNDING_FIELDS = frozenset({"stores", "top_k"})
EFFORTS = {
    "none": Think.OFF,
    "minimal": Think.LOW,
    "low": Think.LOW,
    "medium": Think.MEDIUM,
    "high": Think.HIGH,
    "xhigh": Think.HIGH,
}
SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
CHAT_FIELDS = known_names(CHAT)
COMPLETION_FIELDS = known_names(COMPLETION)
EMBED_FIELDS = frozenset({"model", "input", "encoding_format", "dimensions", "truncate", "user", "keep_alive"})


def parse_chat(raw: bytes, bounds: RequestBounds) -> Chat:
    """Raises InvalidJson, InvalidValue, Unsupported."""
    return read_chat(Fields(parse_object(raw, depth=bounds.depth, items=bounds.items)), bounds)


def read_chat(fields: Fields, bounds: RequestBounds) -> Chat:
    """Raises InvalidValue, Unsupported."""
    items = fields.items("messages", bounds.messages)
    if items is None:
        raise InvalidValue("'messages' is required", param="messages")
    refuse_unsupported(fields)
    stream = fields.flag("stream")
    template = fields.inner("chat_template_kwargs")
    return Chat(
        model=fields.text("model") or "",
        messages=read_messages(items),
        sampling=read_sampling(fields),
        tool_use=read_tool_use(fields, bounds.tools),
        constraint=read_constraint(fields),
        choices=fields.integer("n", 1, MOST_CHOICES) or 1,
        stream=stream,
        include_usage=read_stream_options(fields, stream=stream),
        top_logprobs=read_logprobs(fields),
        template=template.values if template else {},
        think=read_think(fields),
        overflow=read_overflow(fields),
        grounding=read_grounding(fields),
        personality=fields.text("personality") or "",
        store=fields.flag("store"),
        user=fields.text("user") or "",
        metadata=read_metadata(fields),
        keep_alive=read_keep_alive(fields),
        dropped=unknown(fields, CHAT_FIELDS),
        fields=tuple(fields.values),
    )


def read_grounding(fields: Fields) -> Grounding | None:
    """Atrium's own extension: `"atrium": {"stores": ["…"], "top_k": 5}`."""
    inner = fields.inner("atrium")
    if inner is None:
        return None
    names = inner.items("stores", MOST_STORES) or []
    if not all(isinstance(name, str) and name for name in names):
        raise wrong(inner.place("stores"), "a list of ids or names of stores", names)
    for name in inner.values:
        if name not in GROUNDING_FIELDS:
            raise InvalidValue(f"'atrium' has no field '{name[:64]}'", param=inner.place(name[:64]))
    top_k = inner.integer("top_k", 1, MOST_PASSAGES) or PASSAGES
    return Grounding(tuple(str(name) for name in names), top_k) if names else None


def parse_completion(raw: bytes, bounds: RequestBounds) -> Completion:
    """Raises InvalidJson, InvalidValue, Unsupported."""
    fields = Fields(parse_object(raw, depth=bounds.depth, items=bounds.items))
    if fields.text("suffix"):
        raise Unsupported("'suffix' needs a model that was trained to fill in", param="suffix")
    choices = fields.integer("n", 1, MOST_CHOICES) or 1
    best_of = fields.integer("best_of", 1, MOST_CHOICES) or choices
    stream = fields.flag("stream")
    if best_of < choices:
        raise InvalidValue(f"'best_of' ({best_of}) must be at least 'n' ({choices})", param="best_of")
    if stream and best_of > choices:
        raise InvalidValue("'best_of' cannot be streamed: the best is known at the end", param="best_of")
    sampling, echo = read_sampling(fields), fields.flag("echo")
    if echo and fields.integer("max_tokens", 0, INT32) == 0:
        # The prompt alone is what is wanted then, while without an echo 0 would be an answer of nothing.
        sampling = replace(sampling, max_tokens=0)
    return Completion(
        model=fields.text("model") or "",
        prompts=read_prompts(fields, "prompt", bounds.inputs),
        sampling=sampling,
        constraint=read_constraint(fields),
        choices=choices,
        best_of=best_of,
        echo=echo,
        stream=stream,
        include_usage=read_stream_options(fields, stream=stream),
        top_logprobs=fields.integer("logprobs", 0, 5),
        keep_alive=read_keep_alive(fields),
        user=fields.text("user") or "",
        dropped=unknown(fields, COMPLETION_FIELDS),
        fields=tuple(fields.values),
    )


@dataclass(frozen=True, slots=True)
class EmbedCall:
    embed: Embed
    base64: bool
    """The caller wants base64, not lists of numbers."""


def parse_embed(raw: bytes, bounds: RequestBounds) -> EmbedCall:
    """Raises InvalidJson, InvalidValue."""
    fields = Fields(parse_object(raw, depth=bounds.depth, items=bounds.items))
    fields.text("user")
    encoding = fields.one_of("encoding_format", ("float", "base64"))
    embed = Embed(
        model=fields.text("model") or "",
        inputs=read_prompts(fields, "input", bounds.inputs, empty_allowed=False),
        dimensions=fields.integer("dimensions", 1, INT32),
        truncate=fields.flag("truncate"),
        keep_alive=read_keep_alive(fields),
        dropped=unknown(fields, EMBED_FIELDS),
    )
    return EmbedCall(embed, base64=encoding == "base64")


def refuse_unsupported(fields: Fields) -> None:
    modalities = fields.items("modalities", 8) or []
    for value in modalities:
        if value not in ("text", "audio"):
            raise wrong("modalities", "'text' or 'audio'", value)
    if fields.has("audio") or "audio" in modalities:
        param = "audio" if fields.has("audio") else "modalities"
        raise Unsupported("This model does not speak", hint="Ask for text", param=param)
    if fields.has("web_search_options"):
        raise Unsupported("There is no web search here", param="web_search_options")


def read_think(fields: Fields) -> Think | None:
    """`thinking` as true, false or `{"type": "enabled" | "disabled"}`, and `reasoning_effort`."""
    effort = fields.one_of("reasoning_effort", tuple(EFFORTS))
    value = fields.raw("thinking")
    if value is not None and not isinstance(value, bool):
        kind = as_fields(value, "thinking").one_of("type", ("enabled", "adaptive", "auto", "disabled"))
        if kind is None:
            raise InvalidValue("'thinking.type' is required", param="thinking.type")
        value = kind != "disabled"
    if value is False:
        return Think.OFF
    if effort is not None:
        return EFFORTS[effort]
    return Think.ON if value else None


def read_overflow(fields: Fields) -> Overflow | None:
    told = fields.one_of("truncation", ("auto", "disabled"))
    if told is None:
        return None
    return "left" if told == "auto" else "refuse"


def read_stream_options(fields: Fields, *, stream: bool) -> bool:
    options = fields.inner("stream_options")
    if options is None:
        return False
    if not stream:
        raise InvalidValue("'stream_options' needs 'stream' to be true", param="stream_options")
    return options.flag("include_usage")


def read_logprobs(fields: Fields) -> int | None:
    wanted = fields.flag("logprobs")
    top = fields.integer("top_logprobs", 0, MOST_LOGPROBS)
    if top is not None and not wanted:
        raise InvalidValue("'top_logprobs' needs 'logprobs' to be true", param="top_logprobs")
    return (top or 0) if wanted else None


def read_keep_alive(fields: Fields) -> float | None:
    """Seconds, or text such as `5m`; negative means for ever."""
    value = fields.raw("keep_alive")
    if not isinstance(value, str):
        return fields.number("keep_alive", -INT32, INT32)
    found = re.fullmatch(r"(-?\d{1,9}(?:\.\d{1,6})?)(ms|s|m|h)?", value.strip())
    if not found:
        raise wrong("keep_alive", "seconds, or a duration such as '5m'", value)
    return float(found[1]) * SECONDS[found[2] or "s"]


def read_prompts(fields: Fields, name: str, most: int, *, empty_allowed: bool = True) -> tuple[Prompt, ...]:
    """A text, a list of texts, token ids, or a list of lists of token ids; never mixed."""
    value = fields.raw(name)
    if value is None:
        raise InvalidValue(f"'{name}' is required", param=name)
    if isinstance(value, str):
        return (checked_text(value, name, empty_allowed=empty_allowed),)
    if not isinstance(value, list) or not value:
        raise wrong(name, "a text, a list of texts, or token ids, and not empty", value)
    if all(isinstance(item, int | float) for item in value):
        return (token_ids(value, name),)
    if len(value) > most:
        raise InvalidValue(f"'{name}' has {len(value)} items; at most {most} are taken", param=name)
    prompts: list[Prompt] = []
    for index, item in enumerate(value):
        place = f"{name}[{index}]"
        if type(item) is not type(value[0]):
            raise wrong(place, "of the same kind as the items before it", item)
        if isinstance(item, str):
            prompts.append(checked_text(item, place, empty_allowed=empty_allowed))
        elif isinstance(item, list):
            prompts.append(token_ids(item, place))
        else:
            raise wrong(place, "a text or a list of token ids", item)
    return tuple(prompts)


def checked_text(text: str, place: str, *, empty_allowed: bool) -> str:
    if not text and not empty_allowed:
        raise InvalidValue(f"'{place}' is empty", param=place)
    return text


def token_ids(items: list[JsonValue], place: str) -> tuple[int, ...]:
    ids: list[int] = []
    for item in items:
        if isinstance(item, bool) or not isinstance(item, int) or not 0 <= item <= INT32:
            raise wrong(place, "a list of token ids, which are whole numbers from 0", item)
        ids.append(item)
    if not ids:
        raise InvalidValue(f"'{place}' is empty", param=place)
    return tuple(ids)


def unknown(fields: Fields, known: frozenset[str]) -> tuple[str, ...]:
    values: Mapping[str, JsonValue] = fields.values
    return tuple(name for name in values if name not in known and values[name] is not None)
