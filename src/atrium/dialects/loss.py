"""What a request loses on its way into another dialect: refused where that changes its meaning, else named.

Source: contract `openai.md`, section 7.2.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from atrium.core.errors import Unsupported
from atrium.core.requests import Dialect

LOSSY = "Leave it out, or send 'X-Atrium-Allow-Lossy: true' to have it dropped"
OWN_NAMES = frozenset({"top_k", "min_p", "typical_p", "repeat_penalty", "repeat_last_n"})
"""Sampling fields that Ollama has among its options."""


@dataclass(slots=True)
class Loss:
    """One request's. `lossy`: the caller would rather lose a field than be refused."""

    target: str
    """Who cannot take it, for messages."""
    lossy: bool = False
    dropped: list[str] = field(default_factory=list[str])

    def drop(self, name: str) -> None:
        """Harmless: named, once."""
        if name not in self.dropped:
            self.dropped.append(name)

    def refuse(self, name: str) -> None:
        """Raises Unsupported, unless the caller allowed the loss."""
        if not self.lossy:
            raise Unsupported(f"'{name}' has no counterpart at {self.target}", hint=LOSSY, param=name)
        self.drop(name)


def named(setting: str, dialect: Dialect) -> str:
    """A sampling field by the name that the caller's dialect has for it."""
    return f"options.{setting}" if dialect is Dialect.OLLAMA and setting in OWN_NAMES else setting
