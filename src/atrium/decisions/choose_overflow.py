"""Whose word it is what becomes of a conversation that does not fit its model's window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from atrium.core.models import ModelCard
from atrium.core.requests import Chat, Overflow
from atrium.settings.tree import ContextPolicy

LATEST = ":latest"
"""Ollama's clients may write it behind any name."""


@dataclass(frozen=True, slots=True)
class Overflows:
    """The server's own words: on all models, and on single ones by name."""

    default: ContextPolicy = "usual"
    models: Mapping[str, ContextPolicy] = field(default_factory=dict[str, ContextPolicy])

    def of(self, chat: Chat, card: ModelCard) -> Overflow:
        """What the request says, else the model's own file, else the server on this model, else the server on all of
        them; where nobody says anything it is what the request's dialect is used to."""
        return chat.overflow or card.config.context_policy or self.named(chat, card.name)

    def named(self, chat: Chat, model: str) -> Overflow:
        """The same for a model that has no file here."""
        policy = self.said(model)
        return chat.overflow or (chat.usual_overflow or "refuse" if policy == "usual" else policy)

    def said(self, model: str) -> ContextPolicy:
        """The server's word. Asked for every chat that is relayed, and mostly there is only one."""
        if not self.models:
            return self.default
        plain = model.removesuffix(LATEST)
        return self.models.get(model) or self.models.get(plain) or self.models.get(plain + LATEST, self.default)
