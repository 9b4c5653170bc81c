"""Chats in the manner of somebody: a prompt that was written down beforehand comes before all others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from atrium.core.errors import ConfigError, NotFound
from atrium.core.requests import Chat
from atrium.decisions.ground_prompt import behind_prompt
from atrium.settings.personalities import PersonalitySettings


@dataclass(frozen=True, slots=True)
class Personalities:
    known: tuple[PersonalitySettings, ...]
    since: datetime
    """When they were read."""

    def put_on(self, chat: Chat) -> Chat:
        """The chat with the prompt of the personality that it names. Raises NotFound."""
        if not chat.personality:
            return chat
        for one in self.known:
            if one.id == chat.personality:
                return replace(chat, messages=behind_prompt(chat.messages, one.prompt))
        known = ", ".join(one.id for one in self.known) or "none"
        message = f"There is no personality '{chat.personality[:100]}'"
        raise NotFound(message, hint=f"Known: {known[:500]}", param="personality")


def read_personalities(given: Sequence[PersonalitySettings], now: datetime) -> Personalities:
    """Raises ConfigError."""
    seen: set[str] = set()
    for one in given:
        if not one.id or not one.prompt.strip():
            raise ConfigError(f"The personality '{one.id}' needs an id and a prompt")
        if one.id in seen:
            raise ConfigError(f"Two personalities have the id '{one.id}'", hint="Give each an id of its own")
        seen.add(one.id)
    return Personalities(tuple(given), now)
