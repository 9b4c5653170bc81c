"""Files of models: sent by clients, made models of, looked into."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from atrium.core.errors import NotFound
from atrium.core.model_ports import Contents, SentFiles
from atrium.core.models import ModelCard, ModelConfig
from atrium.core.ports import Gallery, Models
from atrium.services.configure_model import ConfigureModel


@dataclass(frozen=True, slots=True)
class ModelFiles:
    sent: SentFiles
    contents: Contents
    models: Models
    gallery: Gallery
    configure: ConfigureModel

    async def has(self, digest: str) -> bool:
        """Whether a file of this sha256 is here."""
        return self._card_of(digest) is not None or await self.sent.has(digest)

    async def take(self, digest: str, pieces: AsyncIterator[bytes], size: int | None) -> None:
        """Keep a file until a model is made of it. Raises InvalidValue, TooLarge, DiskFull."""
        if not await self.has(digest):
            await self.sent.take(digest, pieces, size)

    async def make(self, name: str, digest: str, config: ModelConfig) -> ModelCard:
        """Raises NotFound for a file that is not here, InvalidValue, InstallFailed, DiskFull."""
        card = self._card_of(digest)
        if card is None:
            if not await self.sent.has(digest):
                hint = "Send it first: POST /api/blobs/sha256:…"
                raise NotFound(f"There is no file sha256:{digest}", hint=hint, param="files")
            await self.gallery.install(self.sent.path(digest), name=name)
            card = await self.gallery.finished(name)
        if card.name != name:
            return await self.configure.create(name, card.name, config)
        return card if config == ModelConfig() else await self.configure.create(name, name, config)

    async def lists(self, card: ModelCard) -> Mapping[str, bytes]:
        """The long entries of a model's file, such as its vocabulary, each as JSON. Raises InstallFailed."""
        return await self.contents.lists(card)

    def _card_of(self, digest: str) -> ModelCard | None:
        cards = self.models.snapshot().cards.values()
        return next((card for card in cards if card.digest == digest), None)
