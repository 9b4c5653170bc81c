"""What the inspecting child tells of a GGUF file."""

from __future__ import annotations

from typing import Literal

import msgspec

from atrium.core.models import Ability, ModelFacts

POOLINGS = {1: "mean", 2: "cls", 3: "last", 4: "rank"}
RANK = 4


class Inspected(msgspec.Struct, frozen=True):
    kind: Literal["model", "projector", "other"]
    name: str
    """As the file calls itself; may be empty."""
    pooling: int
    """llama.cpp's number: 0 none, 1 mean, 2 first token, 3 last token, 4 rank."""
    causal: bool
    facts: ModelFacts
    sees: bool = False
    hears: bool = False
    widths: tuple[int, ...] = ()
    """Of a projector: lengths of the vectors that it can hand to a model."""

    @property
    def abilities(self) -> frozenset[Ability]:
        if self.pooling == RANK:
            return frozenset({Ability.RERANK})
        if self.pooling or not self.causal:
            return frozenset({Ability.EMBEDDING})
        return frozenset({Ability.CHAT, Ability.COMPLETION})

    @property
    def options(self) -> dict[str, str]:
        return {"pooling": POOLINGS[self.pooling]} if self.pooling in POOLINGS else {}
