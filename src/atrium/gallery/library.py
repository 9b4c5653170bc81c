"""The models folder: content-addressed weights, and a manifest per name that is written last.

What has no manifest is not installed, so nothing half there is ever listed. Implements `core.ports.Models`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import msgspec

from atrium.core.errors import ModelNotFound
from atrium.core.models import Ability, Catalog, Installing, ModelCard
from atrium.gallery.files import sync_folder, write_whole

Tell = Callable[[str, Mapping[str, object]], None]


class Library:
    def __init__(
        self,
        folder: Path,
        aliases: Mapping[str, tuple[str, ...]],
        defaults: Mapping[Ability, str],
        tell: Tell,
    ) -> None:
        self.blobs = folder / "blobs"
        self.manifests = folder / "manifests"
        self._tell = tell
        self._catalog = Catalog({}, {}, dict(aliases), dict(defaults))

    def open(self) -> None:
        """Read the manifests. Blocking, and quick: a few small files."""
        self.blobs.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.manifests.mkdir(mode=0o700, exist_ok=True)
        cards: dict[str, ModelCard] = {}
        for path in sorted(self.manifests.glob("*.json")):
            try:
                card = msgspec.json.decode(path.read_bytes(), type=ModelCard)
            except (msgspec.MsgspecError, UnicodeDecodeError, OSError) as error:
                self._tell("model.damaged", {"model": path.stem, "error": str(error)})
                continue
            if card.engine != "fake" and not Path(card.path).is_file():
                self._tell("model.damaged", {"model": card.name, "error": f"{card.path} is missing"})
                continue
            cards[card.name] = card
        self._change(cards=cards)

    def snapshot(self) -> Catalog:
        return self._catalog

    def blob(self, digest: str) -> Path:
        return self.blobs / f"sha256-{digest}"

    def add(self, card: ModelCard) -> None:
        """List a model whose files are whole. Blocking."""
        write_whole(self._manifest(card.name), msgspec.json.encode(card))
        self._change(cards={**self._catalog.cards, card.name: card})

    def remove(self, name: str) -> None:
        """Forget a model, and its weights unless another one has the same. Blocking. Raises ModelNotFound."""
        cards = dict(self._catalog.cards)
        card = cards.pop(name, None)
        if card is None:
            raise ModelNotFound(f"The model '{name}' is not installed", param="name")
        self._manifest(name).unlink(missing_ok=True)
        sync_folder(self.manifests)
        blob = self.blob(card.digest)
        if card.path == str(blob) and not any(other.path == card.path for other in cards.values()):
            blob.unlink(missing_ok=True)
        self._change(cards=cards)

    def under_way(self, name: str, state: Installing | None) -> None:
        """Show how far an installation is; None once it is over."""
        installing = {**self._catalog.installing}
        if state is None:
            installing.pop(name, None)
        else:
            installing[name] = state
        self._change(installing=installing)

    def _manifest(self, name: str) -> Path:
        return self.manifests / f"{quote(name, safe='')}.json"

    def rename(self, aliases: Mapping[str, tuple[str, ...]]) -> None:
        """Other aliases, from the next request on."""
        self._catalog = replace(self._catalog, aliases=dict(aliases))

    def _change(
        self, cards: Mapping[str, ModelCard] | None = None, installing: Mapping[str, Installing] | None = None
    ) -> None:
        old = self._catalog
        self._catalog = Catalog(
            old.cards if cards is None else cards,
            old.installing if installing is None else installing,
            old.aliases,
            old.defaults,
        )
