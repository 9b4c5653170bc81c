"""Requests to an endpoint that speaks only Ollama's own API. Source: contract `openai.md`, sections 7.1 and 7.2."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import orjson

from atrium.core.errors import InvalidValue
from atrium.core.requests import (
    Chat,
    Completion,
    Constraint,
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
    Tool,
    ToolMode,
    ToolUse,
    Tuning,
)
from atrium.dialects.loss import Loss
from atrium.dialects.ollama.listings import PARAMETERS
from atrium.dialects.ollama.options import OPTIONS

Json = dict[str, Any]
SCORES_SINCE = (0, 12, 11)
"""The first version that gives log probabilities."""
THINKS: Mapping[Think, bool | str] = {
    Think.OFF: False,
    Think.ON: True,
    Think.LOW: "low",
    Think.MEDIUM: "medium",
    Think.HIGH: "high",
}
HARMLESS = ("user", "metadata", "store")
"""Fields that Atrium itself honours and Ollama has no word for."""
FORCED = "Answer with the call of one function, as JSON. The functions:\n"


@dataclass(frozen=True, slots=True)
class Forced:
    """A call that the endpoint is made to write as JSON. `tool` is empty where the answer names it itself."""

    schema: Json
    tool: str
    told: str


def write_chat(chat: Chat, model: str, version: tuple[int, ...], loss: Loss) -> bytes:
    """`version`: the endpoint's, empty when unknown. Raises Unsupported, InvalidValue."""
    forced = forced_call(chat)
    messages = [*message_objects(chat.messages, loss)]
    body: Json = {"model": model, "messages": messages, "stream": chat.stream} | window_members(chat)
    if forced is not None:
        messages.insert(leading_systems(chat.messages), {"role": "system", "content": forced.told})
        body["format"] = forced.schema
    else:
        body |= shape_member(chat.constraint, loss) | tool_member(chat.tool_use)
    if chat.template:
        loss.drop("chat_template_kwargs")
    for name in chat.fields:
        if name in HARMLESS:
            loss.drop(name)
    return orjson.dumps(body | chat_members(chat, version, loss))


def write_generate(chat: Chat, model: str, version: tuple[int, ...], loss: Loss) -> bytes:
    """A chat that came as a generation, for `/api/generate`. Raises Unsupported, InvalidValue."""
    *systems, prompt = chat.messages
    body: Json = {"model": model, "prompt": prompt.text, "stream": chat.stream} | window_members(chat)
    body |= {"system": systems[0].text} if systems else {}
    body |= {"template": chat.prompt_template} if chat.prompt_template else {}
    body |= {"context": list(chat.context)} if chat.context else {}
    body |= {"images": [base64_of(media) for media in prompt.media]} if prompt.media else {}
    return orjson.dumps(body | shape_member(chat.constraint, loss) | chat_members(chat, version, loss))


def chat_members(chat: Chat, version: tuple[int, ...], loss: Loss) -> Json:
    """What chats and generations say alike."""
    told: Json = {} if chat.think is None else {"think": THINKS[chat.think]}
    told |= options_member(chat.sampling, chat, loss) | scores_members(chat.top_logprobs, version, loss)
    return told | keep_member(chat.keep_alive)


def window_members(chat: Chat) -> Json:
    """Where it is settled here what becomes of a chat that does not fit, the endpoint is not to cut it in silence."""
    told: Json = {} if chat.overflow is None else {"truncate": False}
    return told if chat.tuning.shift else told | {"shift": False}


def write_completion(completion: Completion, prompt: Prompt, model: str, version: tuple[int, ...], loss: Loss) -> bytes:
    """For `/api/generate`. Raises Unsupported, InvalidValue."""
    if not isinstance(prompt, str):
        loss.refuse("prompt")
        prompt = ""
    body: Json = {"model": model, "prompt": prompt, "stream": completion.stream}
    if completion.suffix:
        body["suffix"] = completion.suffix
    else:
        body["raw"] = True
    if completion.images:
        body["images"] = [base64_of(media) for media in completion.images]
    if "user" in completion.fields:
        loss.drop("user")
    body |= {"truncate": False} | ({} if completion.tuning.shift else {"shift": False})
    body |= shape_member(completion.constraint, loss)
    body |= options_member(completion.sampling, completion, loss)
    body |= scores_members(completion.top_logprobs, version, loss)
    return orjson.dumps(body | keep_member(completion.keep_alive))


def write_embed(embed: Embed, model: str, loss: Loss) -> bytes:
    """Raises Unsupported."""
    texts = [one for one in embed.inputs if isinstance(one, str)]
    if len(texts) < len(embed.inputs):
        # Without its token ids there is nothing left to embed: this loss cannot be allowed.
        loss.lossy = False
        loss.refuse("input")
    body: Json = {"model": model, "input": texts, "truncate": embed.truncate}
    if embed.dimensions:
        body["dimensions"] = embed.dimensions
    options: Json = {}
    add_tuning(embed.tuning, options)
    if options:
        body["options"] = options
    return orjson.dumps(body | keep_member(embed.keep_alive))


def leading_systems(messages: Sequence[Message]) -> int:
    return next((index for index, one in enumerate(messages) if one.role is not Role.SYSTEM), len(messages))


def message_objects(messages: Sequence[Message], loss: Loss) -> list[Json]:
    """Results name their tool, which is looked up from the call that they answer."""
    tools: dict[str, str] = {}
    told: list[Json] = []
    for number, message in enumerate(messages):
        tools |= {call.id: call.name for call in message.tool_calls}
        one: Json = {"role": message.role.value, "content": message.text}
        if message.thinking:
            one["thinking"] = message.thinking
        images = [base64_of(media) for media in message.media if may_carry(media, loss)]
        if images:
            one["images"] = images
        if message.tool_calls:
            one["tool_calls"] = [
                {"id": call.id, "function": {"name": call.name, "arguments": arguments_of(call.arguments, number)}}
                for call in message.tool_calls
            ]
        if message.role is Role.TOOL:
            name = tools.get(message.tool_call_id or "") or message.name
            one |= {"tool_name": name} if name else {}
            one |= {"tool_call_id": message.tool_call_id} if message.tool_call_id else {}
        elif message.name:
            loss.drop("messages.name")
        told.append(one)
    return told


def arguments_of(text: str, number: int) -> Json:
    """Raises InvalidValue: Ollama takes an object, and nothing else can stand for one."""
    try:
        arguments = orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        arguments = None
    if not isinstance(arguments, dict):
        place = f"messages[{number}].tool_calls"
        raise InvalidValue(f"'{place}' has arguments that are no JSON object", param=place)
    return cast("Json", arguments)


def may_carry(media: Media, loss: Loss) -> bool:
    if media.kind != "image":
        loss.refuse(media.place)
        return False
    if media.detail:
        loss.drop("messages.content.image_url.detail")
    return True


def base64_of(media: Media) -> str:
    """Raises InvalidValue for an image that is no data URI in base64; one behind an address has been fetched."""
    head, comma, data = media.url.strip().partition(",")
    if not comma or not head[:5].lower() == "data:" or not head.lower().endswith(";base64"):
        raise InvalidValue(
            f"'{media.place}' is neither an http or https address nor a data URI in base64",
            hint="Send the image as a data URI in base64",
            param=media.place,
        )
    return data


def options_member(sampling: Sampling, said: Chat | Completion, loss: Loss) -> Json:
    told: Json = {name: value for name, own in PARAMETERS.items() if (value := getattr(sampling, own)) is not None}
    if sampling.stop:
        told["stop"] = list(sampling.stop)
    for name, given in (("logit_bias", bool(sampling.logit_bias)), ("min_tokens", bool(sampling.min_tokens))):
        if given:
            loss.refuse(name)
    add_tuning(said.tuning, told)
    return {"options": told} if told else {}


def add_tuning(tuning: Tuning, options: Json) -> None:
    if tuning.context is not None:
        options["num_ctx"] = tuning.context
    options |= {name.removeprefix(OPTIONS): value for name, value in (*tuning.hints.items(), *tuning.samplers.items())}


def shape_member(constraint: Constraint, loss: Loss) -> Json:
    match constraint:
        case FreeText():
            return {}
        case JsonObject():
            return {"format": "json"}
        case JsonSchema(schema):
            return {"format": schema if isinstance(schema, dict) else "json"}
        case Gbnf():
            loss.refuse("grammar")
            return {}


def tool_member(use: ToolUse) -> Json:
    if use.mode is ToolMode.NONE or not use.tools:
        return {}
    return {"tools": [tool_object(tool) for tool in use.tools]}


def tool_object(tool: Tool) -> Json:
    parameters = dict(tool.parameters) or {"type": "object", "properties": {}}
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": parameters},
    }


def forced_call(chat: Chat) -> Forced | None:
    """How a demanded call is got from an endpoint that knows no `tool_choice`: as the one shape of its answer.

    Raises InvalidValue where the answer is to have another shape as well.
    """
    use = chat.tool_use
    if use.mode not in (ToolMode.REQUIRED, ToolMode.NAMED) or not use.tools:
        return None
    if not isinstance(chat.constraint, FreeText):
        message = "The endpoint cannot be made to call a tool and to answer in a shape at once"
        raise InvalidValue(message, hint="Leave out 'response_format'", param="tool_choice")
    fit = [tool for tool in use.tools if use.mode is ToolMode.REQUIRED or tool.name == use.name]
    told = FORCED + "\n".join(json.dumps(tool_object(tool)["function"], ensure_ascii=False) for tool in fit)
    if len(fit) == 1:
        return Forced(arguments_schema(fit[0]), fit[0].name, told)
    calls: list[Json] = [
        {
            "type": "object",
            "properties": {"name": {"const": tool.name}, "arguments": arguments_schema(tool)},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for tool in fit
    ]
    return Forced({"anyOf": calls}, "", told)


def arguments_schema(tool: Tool) -> Json:
    return {"type": "object", **tool.parameters}


def scores_members(top: int | None, version: tuple[int, ...], loss: Loss) -> Json:
    if top is None:
        return {}
    if version < SCORES_SINCE:
        loss.refuse("top_logprobs" if top else "logprobs")
        return {}
    return {"logprobs": True, "top_logprobs": top}


def keep_member(keep_alive: float | None) -> Json:
    """Ollama takes whole seconds, or a duration as text."""
    if keep_alive is None:
        return {}
    if keep_alive < 0:
        return {"keep_alive": -1}
    return {"keep_alive": int(keep_alive) if keep_alive == math.floor(keep_alive) else f"{keep_alive:.3f}s"}
