"""The promise that an answer can be read again, by the one who asked for it to be kept, until they delete it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from atrium.core.completions import CompletionPage, CompletionQuery, KeptCompletion
from atrium.core.errors import InvalidValue, NotFound
from atrium.core.people import Caller
from atrium.core.ports import CompletionBook

NOTHING = CompletionPage((), has_more=False)


@dataclass(frozen=True, slots=True)
class KeepCompletions:
    book: CompletionBook
    largest: int
    """Bytes of one completion, question and answer together."""

    def refuse_large(self, asked: int) -> None:
        """Before anything is generated. Raises InvalidValue for a question that leaves no room for its answer."""
        if asked > self.largest // 2:
            raise InvalidValue(
                f"A request of {asked} bytes is larger than what can be stored ({self.largest // 2})",
                hint="Send it without 'store'",
                param="store",
            )

    @staticmethod
    def keeps_for(caller: Caller) -> bool:
        """Whoever is anonymous owns nothing, or all who are would read what one of them said."""
        return caller.user_id is not None

    async def keep(self, kept: KeptCompletion) -> None:
        """Raises InvalidValue when it is too large."""
        if len(kept.answer) + len(kept.messages) > self.largest:
            raise InvalidValue(f"The completion is larger than the {self.largest} bytes that are stored", param="store")
        await self.book.add(kept)

    async def one(self, caller: Caller, completion_id: str) -> KeptCompletion:
        """Raises NotFound, also for somebody else's."""
        found = await self.book.find(caller.user_id, completion_id) if self.keeps_for(caller) else None
        if found is None:
            raise missing(completion_id)
        return found

    async def page(self, caller: Caller, query: CompletionQuery) -> CompletionPage:
        """Raises InvalidValue for a cursor that leads nowhere."""
        return await self.book.page(caller.user_id, query) if self.keeps_for(caller) else NOTHING

    async def note(self, caller: Caller, completion_id: str, metadata: Mapping[str, str]) -> KeptCompletion:
        """Raises NotFound."""
        found = await self.one(caller, completion_id)
        if not await self.book.note(caller.user_id, completion_id, metadata):
            raise missing(completion_id)
        return replace(found, metadata=metadata)

    async def delete(self, caller: Caller, completion_id: str) -> None:
        """Raises NotFound."""
        if not self.keeps_for(caller) or not await self.book.delete(caller.user_id, completion_id):
            raise missing(completion_id)


def missing(completion_id: str) -> NotFound:
    return NotFound(f"There is no stored completion '{completion_id[:80]}'")
