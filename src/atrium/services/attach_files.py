"""Files that a chat brings along, for models that take none: their text is put where they stood."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from atrium.core.answers import Events
from atrium.core.document_ports import Parser
from atrium.core.errors import InvalidValue, QueueFull, UnreadableDocument, Unsupported
from atrium.core.models import Ability
from atrium.core.people import Caller
from atrium.core.requests import Chat, Media
from atrium.core.trails import Trail
from atrium.decisions.lay_out_files import lay_out_files, shown_name
from atrium.decisions.read_base64 import file_of, split_data
from atrium.decisions.tell_format import ENDINGS
from atrium.services.elsewhere import Elsewhere
from atrium.services.metered import MeteredChat

DATA = "data:"


@dataclass(frozen=True, slots=True)
class FileBounds:
    most: int
    """In one chat."""
    size: int
    """Bytes of one file."""
    text: int
    """Characters of all files of one chat."""
    seconds: float
    """For all files of one chat."""
    patience: float
    """Seconds that a chat waits for others' files to be read."""


@dataclass(frozen=True, slots=True)
class WithFiles:
    chats: MeteredChat
    elsewhere: Elsewhere
    read: ReadFiles

    async def __call__(self, chat: Chat, caller: Caller, trail: Trail | None = None) -> Events:
        """Raises InvalidValue, Unsupported and UnreadableDocument that name the part, QueueFull, Forbidden, and what
        the chat raises."""
        if any(one.kind == "file" for message in chat.messages for one in message.media):
            self.chats.usher.names(caller, chat.model, Ability.CHAT)
            if not self._taken_there(chat.model):
                chat = await self.read(chat)
        return await self.chats(chat, caller, trail)

    def _taken_there(self, model: str) -> bool:
        """By the endpoint, whichever it will be."""
        there = self.elsewhere.answers(model, self.chats.usher.models.snapshot(), Ability.CHAT)
        return there and self.elsewhere.remote.takes_files(model)


@dataclass(frozen=True, slots=True)
class ReadFiles:
    parser: Parser
    bounds: FileBounds
    scratch: Path
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    """How many chats have their files read at the same time."""

    async def __call__(self, chat: Chat) -> Chat:
        """With text in place of its files. Raises InvalidValue, Unsupported, UnreadableDocument, QueueFull."""
        files = [one for message in chat.messages for one in message.media if one.kind == "file"]
        for one in files:
            check_carried(one, self.bounds)
        if len(files) > self.bounds.most:
            message = f"The chat has {len(files)} files; at most {self.bounds.most} are taken"
            raise InvalidValue(message, param=files[self.bounds.most].place)
        texts: dict[str, str] = {}
        async with self._turn():
            try:
                async with asyncio.timeout(self.bounds.seconds):
                    for one in files:
                        texts[one.place] = await self._text(one)
                        self._check_text(texts, one)
            except TimeoutError:
                message = f"Reading the chat's files takes longer than {self.bounds.seconds:g} s"
                raise UnreadableDocument(message, hint="Send fewer or shorter ones", param="messages") from None
        return lay_out_files(chat, texts)

    @asynccontextmanager
    async def _turn(self) -> AsyncGenerator[None]:
        """Raises QueueFull."""
        try:
            async with asyncio.timeout(self.bounds.patience):
                await self.turns.acquire()
        except TimeoutError:
            raise QueueFull("Too many files wait to be read", hint="Ask again later", retry_after=5.0) from None
        try:
            yield
        finally:
            self.turns.release()

    async def _text(self, media: Media) -> str:
        path = self.scratch / f"chat-{secrets.token_hex(16)}"
        unpacking = asyncio.create_task(asyncio.to_thread(unpack, media, self.bounds, path))
        try:
            ending = await asyncio.shield(unpacking)
            found = await self.parser.parse(path, shown_name(media.name) if media.name else f"document{ending}")
        except UnreadableDocument as why:
            raise UnreadableDocument(why.message, hint=why.hint, param=content_of(media)) from None
        finally:
            # No thread is cancelled: what it still writes would lie there until the next start.
            await asyncio.wait([unpacking])
            await asyncio.to_thread(path.unlink, missing_ok=True)
        return found.text

    def _check_text(self, texts: dict[str, str], last: Media) -> None:
        if sum(map(len, texts.values())) > self.bounds.text:
            message = f"The chat's files have more than {self.bounds.text} characters of text"
            raise InvalidValue(message, hint="Put them into a store and ask that", param=content_of(last))


def content_of(media: Media) -> str:
    return f"{media.place}.file.file_data"


def check_carried(media: Media, bounds: FileBounds) -> None:
    """Raises InvalidValue, Unsupported."""
    if media.uploaded:
        raise Unsupported(
            "No files can be uploaded here beforehand",
            hint="Send the file itself as 'file_data'",
            param=f"{media.place}.file.file_id",
        )
    if len(media.url) > bounds.size * 3 // 2 + 1024:
        # However its lines are broken, there is more in it than that.
        raise too_large(media, bounds)


def too_large(media: Media, bounds: FileBounds) -> InvalidValue:
    return InvalidValue(f"The file is larger than {bounds.size} bytes", param=content_of(media))


def unpack(media: Media, bounds: FileBounds, path: Path) -> str:
    """Blocking. Writes what the part holds; gives the ending that its media type has. Raises InvalidValue."""
    place = content_of(media)
    kind, text = "", media.url.strip()
    if text[: len(DATA)].lower() == DATA:
        kind, text = split_data(text, "file", place)
    data = file_of(text, "file", place)
    if len(data) > bounds.size:
        raise too_large(media, bounds)
    path.write_bytes(data)
    return ENDINGS.get(kind, "")
