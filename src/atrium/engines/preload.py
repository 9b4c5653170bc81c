"""Loading models before anybody asks for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from atrium.core.errors import AtriumError
from atrium.core.events import Tell
from atrium.core.models import ModelCard
from atrium.core.people import Caller
from atrium.core.ports import Engines

NOBODY = Caller(user_id=None, name="preload")


async def preload(names: Sequence[str], cards: Mapping[str, ModelCard], engines: Engines, tell: Tell) -> None:
    """In this order; one that is not here or cannot be loaded is told as an event and passed over."""
    for name in names:
        try:
            if name not in cards:
                tell("model.preload_failed", {"model": name, "error": f"The model '{name}' is not installed"})
                continue
            async with engines.lease(cards[name], NOBODY):
                pass
        except AtriumError as failed:
            tell("model.preload_failed", {"model": name, "error": failed.message})
