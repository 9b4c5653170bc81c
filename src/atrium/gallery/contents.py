"""The long lists of a model's file, such as its vocabulary, which are read only when somebody asks for them."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from atrium.core.models import ModelCard
from atrium.gallery.children import run_worker

GGUF = "llamacpp"
"""The engine whose models are GGUF files."""


class GgufContents:
    """Implements `core.model_ports.Contents`."""

    async def lists(self, card: ModelCard) -> Mapping[str, bytes]:
        if card.engine != GGUF:
            return {}
        said = msgspec.json.decode(await run_worker("list_gguf", card.path), type=dict[str, msgspec.Raw])
        return {name: bytes(value) for name, value in said.items()}
