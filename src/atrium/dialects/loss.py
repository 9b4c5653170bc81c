"""What a request loses on its way into another dialect: refused where that changes its meaning, else named.

Source: contract `openai.md`, section 7.2.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from atrium.core.errors import Unsupported
from atrium.core.requests import Dialect

LOSSY = "Leave it out, or send 'X-Atrium-Allow-Lossy: true' to have it dropped"
OPTIONS = {
    "max_tokens": "options.num_predict",
    "logit_bias": "logit_bias",
    "min_tokens": "min_tokens",
}
OWN_NAMES = frozenset(
    {
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "typical_p",
        "repeat_penalty",
        "repeat_last_n",
        "frequency_penalty",
        "presence_penalty",
        "seed",
        "stop",
    }
)


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

    def refuse(self, name: str, *, param: str = "") -> None:
        """Raises Unsupported, unless the caller allowed the loss."""
        if not self.lossy:
            raise Unsupported(f"'{name}' has no counterpart at {self.target}", hint=LOSSY, param=param or name)
        self.drop(name)


def named(setting: str, dialect: Dialect) -> str:
    """A sampling field by the name that the caller's dialect has for it."""
    if dialect is not Dialect.OLLAMA:
        return setting
    return f"options.{setting}" if setting in OWN_NAMES else OPTIONS.get(setting, setting)
