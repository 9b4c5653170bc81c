"""What a model's configuration adds to a request that is silent about it."""

from __future__ import annotations

from dataclasses import replace

from atrium.core.models import ModelConfig
from atrium.core.requests import Chat, Completion, Message, Role
from atrium.decisions.fill_sampling import fill_sampling


def fill_chat(chat: Chat, config: ModelConfig) -> Chat:
    """With the model's defaults, the turns it always begins with, and its system message where the chat has none."""
    messages = chat.messages
    if config.messages:
        own = tuple(Message(Role(role), content) for role, content in config.messages)
        first = 1 if messages and messages[0].role is Role.SYSTEM else 0
        messages = (*messages[:first], *own, *messages[first:])
    if config.system and not any(message.role is Role.SYSTEM for message in messages):
        messages = (Message(Role.SYSTEM, config.system), *messages)
    sampling = fill_sampling(chat.sampling, config.sampling, chat.defaults)
    return replace(chat, messages=messages, sampling=sampling)


def fill_completion(completion: Completion, config: ModelConfig) -> Completion:
    """With the model's defaults."""
    return replace(completion, sampling=fill_sampling(completion.sampling, config.sampling, completion.defaults))
