"""Which way a long text is worked through. Contract `lollms.md`, section 8."""

from __future__ import annotations

import pytest

from atrium.core.long_text import Strategy
from atrium.decisions.plan_long_text import FEW, MANY, choose_strategy, room_of

ROOM = room_of(2048, 256, 100, exact=True)


@pytest.mark.parametrize(
    ("tokens", "prompt", "strategy"),
    [
        (ROOM.whole, "Translate it step by step", Strategy.DIRECT),
        (ROOM.whole + 1, "Translate it step by step", Strategy.REFINE),
        (ROOM.part * FEW, "Tell the plot in order", Strategy.REFINE),
        (ROOM.part * FEW + 1, "Tell the plot in order", Strategy.MAP_REDUCE),
        (ROOM.part * MANY, "Where does Ann live?", Strategy.MAP_REDUCE),
        (ROOM.part * MANY + 1, "Where does Ann live?", Strategy.RETRIEVAL),
        (ROOM.part * MANY + 1, "Summarise it.", Strategy.MAP_REDUCE),
    ],
)
def test_the_strategy_follows_from_the_size_and_the_prompt(tokens: int, prompt: str, strategy: Strategy) -> None:
    assert choose_strategy(tokens, ROOM, prompt) is strategy
