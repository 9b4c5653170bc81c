"""Text into tokens and back, by the model's own tokenizer, without loading the model.

A remote model without a tokenizer is counted by the default local one, and the answer says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from atrium.core.endpoints import RemoteModel
from atrium.core.errors import InvalidValue, TooLarge
from atrium.core.models import Ability, Catalog, ModelCard
from atrium.core.ports import Engines, Models, Remotes, Tokenizers
from atrium.decisions.order_models import ability_of
from atrium.decisions.resolve_name import candidates, installed, missing

BYTES = 256
"""Tokens of the last resort, where no local model is installed: one for each byte."""


@dataclass(frozen=True, slots=True)
class Tokens:
    ids: list[int]
    exact: bool


@dataclass(frozen=True, slots=True)
class Count:
    count: int
    exact: bool


@dataclass(frozen=True, slots=True)
class Text:
    text: str
    exact: bool


@dataclass(frozen=True, slots=True)
class Tokenize:
    models: Models
    remotes: Remotes
    tokenizers: Tokenizers
    engines: Engines
    most: int
    """Characters of one text, and tokens of one list."""

    def meant(self, name: str) -> ModelCard | RemoteModel:
        """The local model of that name, else the remote one; empty: the default chat model, or what stands in for it.

        Raises ModelNotFound, ModelLoading, ModelUnavailable.
        """
        catalog = self.models.snapshot()
        if card := installed(name, catalog, Ability.CHAT) if name else own_chat_model(catalog):
            return card
        model = self.remotes.find(name) if name else self._first(catalog)
        if model:
            return model
        raise missing(name, catalog, Ability.CHAT)

    def _first(self, catalog: Catalog) -> RemoteModel | None:
        """Where no local model is to be the default it is the first one that there is."""
        if any(one in catalog.installing for one in candidates("", catalog, Ability.CHAT)):
            return None
        return next((one for one in self.remotes.listed() if ability_of(one.offered) is Ability.CHAT), None)

    def default(self) -> ModelCard | None:
        """Whose vocabulary stands in for those that nobody tells."""
        return own_chat_model(self.models.snapshot())

    async def encode(self, model: str, text: str) -> Tokens:
        """Raises TooLarge, what `meant` raises, EngineFailed, UpstreamFailed, UpstreamTimeout, QueueFull."""
        self._check_size(len(text), "text")
        meant = self.meant(model)
        if not text:
            return Tokens([], exact=True)
        if isinstance(meant, ModelCard):
            return Tokens(await self.tokenizers.encode(meant, text), exact=True)
        ids = await self.remotes.encode(meant, text)
        if ids is not None:
            return Tokens(ids, exact=True)
        return Tokens(await self.tokenizers.encode(self.default(), text), exact=False)

    async def count(self, model: str, text: str) -> Count:
        """As many as `encode` gives, and raises as it does."""
        meant = self.meant(model)
        if isinstance(meant, RemoteModel):
            tokens = await self.encode(model, text)
            return Count(len(tokens.ids), tokens.exact)
        self._check_size(len(text), "text")
        return Count(await self.tokenizers.count(meant, text) if text else 0, exact=True)

    async def decode(self, model: str, ids: Sequence[int]) -> Text:
        """Raises InvalidValue for an id that the vocabulary does not have, and as `encode`."""
        self._check_size(len(ids), "tokens")
        meant = self.meant(model)
        if not ids:
            return Text("", exact=True)
        if isinstance(meant, RemoteModel):
            text = await self.remotes.decode(meant, ids)
            if text is not None:
                return Text(text, exact=True)
        card = meant if isinstance(meant, ModelCard) else self.default()
        check_known(ids, card.facts.vocabulary.size if card else BYTES)
        return Text(await self.tokenizers.decode(card, ids), exact=card is meant)

    async def window(self, model: str) -> int:
        """Tokens of a request and its answer together. Raises what `meant` raises, EngineMissing."""
        meant = self.meant(model)
        return self.engines.planned(meant).context if isinstance(meant, ModelCard) else await self.remotes.window(meant)

    def _check_size(self, size: int, param: str) -> None:
        if size > self.most:
            raise TooLarge(
                f"'{param}' has {size} items; at most {self.most} are taken", hint="Send it in parts", param=param
            )


def own_chat_model(catalog: Catalog) -> ModelCard | None:
    """The default chat model; where it neither is here nor comes, the first of the local ones by name."""
    wanted = candidates("", catalog, Ability.CHAT)
    card = installed("", catalog, Ability.CHAT)
    if card is not None or any(one in catalog.installing for one in wanted):
        return card
    able = (name for name, one in catalog.cards.items() if Ability.CHAT in one.abilities)
    first = min(able, default=None)
    return catalog.cards[first] if first is not None else None


def check_known(ids: Sequence[int], size: int) -> None:
    """Raises InvalidValue."""
    for token in (min(ids), max(ids)):
        if not 0 <= token < size:
            raise InvalidValue(
                f"'tokens' has the id {token}, but this model's vocabulary has {size}",
                hint="Ids must come from the model's own tokenizer",
                param="tokens",
            )
