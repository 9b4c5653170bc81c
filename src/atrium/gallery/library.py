"""The models folder: content-addressed weights, and a manifest per name that is written last.

What has no manifest is not installed, so nothing half there is ever listed. What is adopted from elsewhere, and what is
said of models in their own files, comes on top. Implements `core.ports.Models`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

import msgspec

from atrium.core.errors import ModelNotFound
from atrium.core.events import Tell
from atrium.core.models import Ability, Catalog, Installing, ModelCard, ModelConfig, Said
from atrium.decisions.compose_catalog import compose
from atrium.gallery.files import sync_folder, write_whole

Finish = Callable[[ModelCard, dict[str, str]], ModelCard]
"""Looks over a card as it is set up, and notes by its name what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Arranged:
    """What comes on top of the installed models."""

    adopted: Mapping[str, ModelCard] = field(default_factory=dict[str, ModelCard])
    said: tuple[Said, ...] = ()
    files: Mapping[str, ModelCard] = field(default_factory=dict[str, ModelCard])
    """Models of single files that configurations name, by path."""
    problems: Mapping[str, str] = field(default_factory=dict[str, str])
    looked_into: int = 0
    """Projectors that configurations name and that are known by now: with each, the cards may change."""


def as_it_is(card: ModelCard, problems: dict[str, str]) -> ModelCard:  # noqa: ARG001 - the shape of `Finish`
    return card


class Library:
    def __init__(
        self,
        folder: Path,
        aliases: Mapping[str, tuple[str, ...]],
        defaults: Mapping[Ability, str],
        tell: Tell,
    ) -> None:
        self.folder = folder
        self.blobs = folder / "blobs"
        self.manifests = folder / "manifests"
        self._tell = tell
        self._installed: Mapping[str, ModelCard] = {}
        self._arranged = Arranged()
        self._finish: Finish = as_it_is
        self._aliases = dict(aliases)
        self._defaults = dict(defaults)
        self._composing = threading.Lock()
        """Installations and looks through folders end in threads of their own."""
        self._installing: Mapping[str, Installing] = {}
        self._composed = Catalog({}, {}, {}, self._defaults)
        self._parts = (self._composed, self._installing, self._aliases)
        """Of which the catalog is made."""
        self._catalog = replace(self._composed, aliases=self._aliases)

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
        self._installed = cards
        self._compose()

    def arrange(self, arranged: Arranged, finish: Finish) -> None:
        """Put other models, and what is said of each, on top of the installed ones. Blocking as `finish` is."""
        if arranged != self._arranged or self._finish is as_it_is:
            self._arranged, self._finish = arranged, finish
            self._compose()

    def snapshot(self) -> Catalog:
        parts = (self._composed, self._installing, self._aliases)
        if any(one is not other for one, other in zip(parts, self._parts, strict=True)):
            composed, installing, aliases = parts
            # The server's own aliases come before those that models want for themselves.
            self._catalog = replace(composed, installing=installing, aliases={**composed.aliases, **aliases})
            self._parts = parts
        return self._catalog

    def blob(self, digest: str) -> Path:
        return self.blobs / f"sha256-{digest}"

    def add(self, card: ModelCard) -> None:
        """List a model whose files are whole. Blocking."""
        write_whole(self._manifest(card.name), msgspec.json.encode(card))
        self._installed = {**self._installed, card.name: card}
        self._compose()

    def share(self, source: ModelCard, name: str) -> None:
        """Install the files of an installed model under another name too; its configuration stays behind. Blocking."""
        self.add(replace(source, name=name, config=ModelConfig(), parent=source.name, projector=None))

    def remove(self, name: str) -> None:
        """Forget a model, and its weights unless another one has the same. Blocking. Raises ModelNotFound."""
        cards = dict(self._installed)
        card = cards.pop(name, None)
        if card is None:
            raise ModelNotFound(f"The model '{name}' is not installed", param="name")
        self._manifest(name).unlink(missing_ok=True)
        sync_folder(self.manifests)
        blob = self.blob(card.digest)
        if card.path == str(blob) and not any(other.path == card.path for other in cards.values()):
            blob.unlink(missing_ok=True)
        self._installed = cards
        self._compose()

    def under_way(self, name: str, state: Installing | None) -> None:
        """Show how far an installation is; None once it is over."""
        installing = {**self._installing}
        if state is None:
            installing.pop(name, None)
        else:
            installing[name] = state
        self._installing = installing

    def _manifest(self, name: str) -> Path:
        return self.manifests / f"{quote(name, safe='')}.json"

    def rename(self, aliases: Mapping[str, tuple[str, ...]]) -> None:
        """Other aliases of the server's, from the next request on."""
        self._aliases = dict(aliases)

    def _compose(self) -> None:
        with self._composing:
            arranged = self._arranged
            made = compose(self._installed, arranged.adopted, arranged.said, arranged.files)
            problems = {**made.problems, **arranged.problems}
            cards = {name: self._finish(card, problems) for name, card in made.cards.items()}
            self._composed = Catalog(cards, {}, made.aliases, self._defaults, problems)
