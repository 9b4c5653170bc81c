"""What is kept of a request that Atrium's own engines answered, made into words only when somebody asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from atrium.core.answers import Timing, Usage
from atrium.core.errors import AtriumError
from atrium.http.edge import Exchange, Headers, surface_of
from atrium.http.explained import SHARED
from atrium.relay.tally import Tallies, took

LOSSES = (b"x-atrium-dropped", b"x-atrium-truncated")
SILENT = frozenset({"admin", "internal", "other"})
"""Surfaces whose refusals nobody asks to have explained."""
OLLA = "/olla/"
CLIENT_LEFT = 499


def losses_of(headers: Headers) -> dict[str, str]:
    """What an answer's head tells of what was dropped or cut."""
    return {name.decode().removeprefix("x-atrium-"): value.decode() for name, value in headers if name in LOSSES}


def is_kept(exchange: Exchange) -> bool:
    """Answers of models, and what was refused in their place."""
    return bool(exchange.model) or (exchange.refused is not None and surface_of(exchange.path) not in SILENT)


@dataclass(frozen=True, slots=True)
class LocalRecord:
    closing: Mapping[str, object]
    """The fields of its closing event."""
    address: str
    at: float
    """Unix seconds of its end."""
    model: str
    usage: Usage
    timing: Timing
    losses: Mapping[str, str]
    refused: AtriumError | None

    def count(self, tallies: Tallies) -> None:
        """Into the figures: as the built-in endpoint's and, by the gateway's paths, as one of its requests."""
        status, broken = cast("int", self.closing["status"]), bool(self.closing.get("broken"))
        failed = has_failed(status, broken=broken)
        seconds, size = cast("float", self.closing["seconds"]), cast("int", self.closing["bytes"])
        cost = took(seconds, size, failed=failed, at=self.at)
        if self.model:
            tallies.note_local(self.model, self.address, cost)
        if cast("str", self.closing["path"]).startswith(OLLA):
            tallies.failures += failed
            tallies.ended.note(cost)

    def told(self) -> Mapping[str, object]:
        """Who called, how long it waited for what, who had to leave for it, the slot, the speed, the losses."""
        record: dict[str, object] = {name: self.closing[name] for name in SHARED}
        record |= {"at": self.at, "address": self.address, "broken": self.closing.get("broken", "")}
        record["error"] = self.refused.sentence if self.refused else ""
        if not self.model:
            return record
        usage, timing = self.usage, self.timing
        how = (
            self.refused.code if self.refused else self.closing.get("broken") or f"it answered {self.closing['status']}"
        )
        return record | {
            "model": self.model,
            "ran": self.model,
            "routing": ["local"],
            "tries": [("local", how, self.closing["seconds"])],
            "waited": timing.queued,
            "loaded": timing.loaded,
            "evicted": list(timing.evicted),
            "slot": timing.slot,
            "prompt_tokens": usage.prompt_tokens,
            "cached_tokens": usage.cached_tokens,
            "completion_tokens": usage.completion_tokens,
            "prompt_seconds": timing.prompt,
            "generation_seconds": timing.generation,
            "prompt_tokens_per_second": per_second(usage.prompt_tokens - usage.cached_tokens, timing.prompt),
            "tokens_per_second": per_second(usage.completion_tokens, timing.generation),
            "dropped": self.losses.get("dropped", ""),
            "truncated": self.losses.get("truncated", ""),
        }


def per_second(count: int, seconds: float) -> float | None:
    """None where nothing was measured."""
    return round(count / seconds, 2) if seconds > 0 else None


def local_record_of(exchange: Exchange, closing: Mapping[str, object], at: float) -> LocalRecord:
    return LocalRecord(
        closing,
        exchange.address,
        at,
        exchange.model,
        exchange.usage,
        exchange.timing,
        exchange.told,
        exchange.refused,
    )


def has_failed(status: int, *, broken: bool) -> bool:
    """Whether an answer counts against who gave it: who left before its end is nobody's failure."""
    return status >= 500 or (broken and status != CLIENT_LEFT)
