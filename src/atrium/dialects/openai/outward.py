"""Requests to an endpoint that speaks OpenAI's API. Source: contracts `openai.md` 7, `ollama.md` 4."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from atrium.core.requests import (
    Chat,
    Completion,
    Constraint,
    Dialect,
    Embed,
    FreeText,
    Gbnf,
    JsonObject,
    JsonSchema,
    Media,
    Message,
    Prompt,
    Role,
    Sampling,
    Think,
    ToolMode,
    ToolUse,
    Tuning,
)
from atrium.dialects.loss import Loss, named

Json = dict[str, Any]
STRICT = frozenset({"openai"})
"""Kinds that refuse a field they do not know."""
UNTEMPLATED = STRICT | {"litellm"}
"""Kinds that may refuse variables for the model's template; the others hand them on, or pass them over."""
SHARED = ("temperature", "top_p", "frequency_penalty", "presence_penalty", "seed", "max_tokens")
EXTRAS: Mapping[str, Mapping[str, str]] = {
    "vllm": {"repeat_penalty": "repetition_penalty"},
    "sglang": {"repeat_penalty": "repetition_penalty"},
}
"""Where a kind has a name of its own."""
EXTRA = ("top_k", "min_p", "typical_p", "repeat_penalty", "repeat_last_n")
EFFORTS = {Think.ON: "medium", Think.LOW: "low", Think.MEDIUM: "medium", Think.HIGH: "high"}
ANSWER = "answer"


def write_chat(chat: Chat, model: str, kind: str, loss: Loss) -> bytes:
    """`kind`: the endpoint's. Raises Unsupported, InvalidValue."""
    refuse_foreign(chat, loss)
    body: Json = {"model": model, "messages": [message_object(one, loss) for one in chat.messages]}
    body |= sampling_members(chat.sampling, chat.dialect, kind, loss)
    body |= tool_members(chat.tool_use)
    body |= shape_member(chat.constraint, kind, loss)
    body |= think_members(chat, kind)
    note_tuning(chat.tuning, chat.keep_alive, loss)
    if chat.top_logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": chat.top_logprobs}
    return orjson.dumps(body | stream_members(stream=chat.stream))


def write_completion(completion: Completion, prompt: Prompt, model: str, kind: str, loss: Loss) -> tuple[str, bytes]:
    """Path and body. Raises Unsupported."""
    for name, given in (("raw", completion.raw), ("suffix", bool(completion.suffix))):
        if given:
            loss.refuse(name)
    if completion.dialect is Dialect.OLLAMA:
        # What is left of a raw generation once its rawness may be lost is a chat of one message.
        text = prompt if isinstance(prompt, str) else ""
        message = Message(Role.USER, text, completion.images)
        chat = Chat(
            model=completion.model,
            messages=(message,),
            sampling=completion.sampling,
            constraint=completion.constraint,
            stream=completion.stream,
            keep_alive=completion.keep_alive,
            tuning=completion.tuning,
            dialect=completion.dialect,
        )
        return "/v1/chat/completions", write_chat(chat, model, kind, loss)
    body: Json = {"model": model, "prompt": prompt if isinstance(prompt, str) else list(prompt)}
    body |= sampling_members(completion.sampling, completion.dialect, kind, loss)
    body |= shape_member(completion.constraint, kind, loss)
    note_tuning(completion.tuning, completion.keep_alive, loss)
    if completion.top_logprobs is not None:
        body["logprobs"] = completion.top_logprobs
    return "/v1/completions", orjson.dumps(body | stream_members(stream=completion.stream))


def write_embed(embed: Embed, model: str, loss: Loss) -> bytes:
    """Vectors are asked for as base64, which is a third of the digits."""
    inputs = [one if isinstance(one, str) else list(one) for one in embed.inputs]
    body: Json = {"model": model, "input": inputs, "encoding_format": "base64"}
    if embed.dimensions:
        body["dimensions"] = embed.dimensions
    note_tuning(embed.tuning, embed.keep_alive, loss)
    return orjson.dumps(body)


def stream_members(*, stream: bool) -> Json:
    return {"stream": True, "stream_options": {"include_usage": True}} if stream else {"stream": False}


def refuse_foreign(chat: Chat, loss: Loss) -> None:
    for name, given in (("template", bool(chat.prompt_template)), ("context", bool(chat.context))):
        if given:
            loss.refuse(name)


def message_object(message: Message, loss: Loss) -> Json:
    told: Json = {"role": message.role.value}
    if message.media:
        told["content"] = content_parts(message, loss)
    else:
        told["content"] = message.text if message.text or not message.tool_calls else None
    if message.name and message.role is not Role.TOOL:
        told["name"] = message.name
    if message.thinking:
        loss.drop("messages.thinking")
    if message.tool_calls:
        told["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.role is Role.TOOL:
        told["tool_call_id"] = message.tool_call_id or message.name or "call_0"
    return told


def content_parts(message: Message, loss: Loss) -> list[Json]:
    """Text, and what stood in it in its place."""
    parts: list[Json] = []
    done = 0
    for media in message.media:
        parts += text_parts(message.text[done : media.at])
        parts.append(media_part(media, loss))
        done = media.at
    return parts + text_parts(message.text[done:])


def text_parts(text: str) -> list[Json]:
    return [{"type": "text", "text": text}] if text else []


def media_part(media: Media, loss: Loss) -> Json:
    """A file is only left in a chat for an endpoint that takes files."""
    if media.kind == "file":
        told = {"filename": media.name, "file_data": media.url, "file_id": media.uploaded}
        return {"type": "file", "file": {name: value for name, value in told.items() if value}}
    if media.kind != "image":
        loss.refuse(media.place)
        return {"type": "text", "text": ""}
    url: Json = {"url": media.url}
    if media.detail:
        url["detail"] = media.detail
    return {"type": "image_url", "image_url": url}


def sampling_members(sampling: Sampling, dialect: Dialect, kind: str, loss: Loss) -> Json:
    told: Json = {name: value for name in SHARED if (value := getattr(sampling, name)) is not None}
    if sampling.stop:
        told["stop"] = list(sampling.stop)
    if sampling.logit_bias:
        told["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias.items()}
    extras: Json = {name: value for name in EXTRA if (value := getattr(sampling, name)) is not None}
    if sampling.min_tokens:
        extras["min_tokens"] = sampling.min_tokens
    for name, value in extras.items():
        if kind in STRICT:
            loss.refuse(named(name, dialect))
        else:
            told[EXTRAS.get(kind, {}).get(name, name)] = value
    return told


def tool_members(use: ToolUse) -> Json:
    if not use.tools:
        return {}
    told: Json = {"tools": [tool_object(use, index) for index in range(len(use.tools))]}
    if use.mode is ToolMode.NAMED:
        told["tool_choice"] = {"type": "function", "function": {"name": use.name}}
    elif use.mode is not ToolMode.AUTO:
        told["tool_choice"] = use.mode.value
    if use.most_calls == 1 and use.mode is not ToolMode.NONE:
        told["parallel_tool_calls"] = False
    return told


def tool_object(use: ToolUse, index: int) -> Json:
    tool = use.tools[index]
    function: Json = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    if tool.strict:
        function["strict"] = True
    return {"type": "function", "function": {name: value for name, value in function.items() if value not in ("", {})}}


def shape_member(constraint: Constraint, kind: str, loss: Loss) -> Json:
    match constraint:
        case FreeText():
            return {}
        case JsonObject():
            return {"response_format": {"type": "json_object"}}
        case JsonSchema(schema):
            return {"response_format": {"type": "json_schema", "json_schema": {"name": ANSWER, "schema": schema}}}
        case Gbnf(text):
            if kind == "vllm":
                return {"structured_outputs": {"grammar": text}}
            if kind == "llamacpp":
                return {"grammar": text}
            loss.refuse("grammar")
            return {}


def think_members(chat: Chat, kind: str) -> Json:
    """A model that is not to think is told so where that has a name; elsewhere its thoughts are only left out."""
    told: Json = {}
    variables = dict(chat.template)
    if chat.think is not None and kind not in UNTEMPLATED:
        variables["enable_thinking"] = chat.think is not Think.OFF
    if chat.think in EFFORTS:
        told["reasoning_effort"] = EFFORTS[chat.think]
    if variables:
        told["chat_template_kwargs"] = variables
    return told


def note_tuning(tuning: Tuning, keep_alive: float | None, loss: Loss) -> None:
    if keep_alive is not None:
        loss.drop("keep_alive")
    for hint in tuning.hints:
        loss.drop(hint)
    for sampler in tuning.samplers:
        loss.refuse(sampler)


def check_window(tuning: Tuning, window: int, loss: Loss) -> None:
    """`window`: of the endpoint's model, 0 when unknown. Raises Unsupported for a larger one."""
    if tuning.context is None:
        return
    if window and tuning.context > window:
        loss.refuse("options.num_ctx")
    else:
        loss.drop("options.num_ctx")
