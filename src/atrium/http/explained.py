"""What is kept of a translated request to explain it, beside what the lane keeps of relayed ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from atrium.core.answers import Usage
from atrium.core.trails import Trail
from atrium.http.edge import Exchange


@dataclass(frozen=True, slots=True)
class TranslatedRecord:
    closing: Mapping[str, object]
    at: float
    """When it ended, on the wall clock."""
    balancer: str
    trail: Trail
    usage: Usage

    def told(self) -> Mapping[str, object]:
        """Who called, who could have answered and why the others were passed over, the tries, what was lost."""
        trail, closing = self.trail, self.closing
        return {
            **{name: closing[name] for name in ("id", "method", "path", "caller", "key", "status", "seconds", "bytes")},
            "at": self.at,
            "address": trail.address,
            "broken": closing.get("broken", ""),
            "model": closing.get("model", trail.model),
            "ran": trail.model,
            "balancer": self.balancer,
            "routing": ["translated", trail.dialect.value if trail.dialect else "", trail.kind],
            "candidates": list(trail.candidates),
            "passed_over": dict(trail.passed),
            "tries": list(trail.tries),
            "waited": trail.waited,
            "dropped": list(trail.dropped),
            "prompt_tokens": self.usage.prompt_tokens,
            "completion_tokens": self.usage.completion_tokens,
        }


def translated_record(exchange: Exchange, closing: Mapping[str, object], at: float, balancer: str) -> TranslatedRecord:
    return TranslatedRecord(closing, at, balancer, exchange.trail, exchange.usage)
