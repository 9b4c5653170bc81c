"""The fake engine: says what it is told to, needs what it claims to need."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from atrium.core.models import ModelCard
from atrium.decisions.fake_address import parse_fake
from atrium.engines.recipes.recipe import Plan, fingerprint


@dataclass(frozen=True, slots=True)
class FakeRecipe:
    slots: int
    """Where the address names none."""

    def plan(self, card: ModelCard, budget: int, *, shrinks: int = 0) -> Plan:  # noqa: ARG002 - its claim is its own
        fake = parse_fake(card.path)
        slots = max(1, (card.slots or fake.slots or self.slots) >> shrinks)
        return Plan(
            slots=slots,
            context=min(card.config.context or fake.context, fake.context),
            memory=fake.size,
            certain=fake.size,
            fingerprint=fingerprint("fake", card.path, slots),
            command=(
                sys.executable,
                "-m",
                "atrium.engines.workers.fake",
                f"--address={card.path}",
                f"--slots={slots}",
            ),
        )
