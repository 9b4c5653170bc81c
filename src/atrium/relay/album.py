"""Pictures that a chat names by an address, for endpoints that take them in the request itself and fetch none."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace

from atrium.core.errors import InvalidValue
from atrium.core.ports import Pictures
from atrium.core.requests import Media, Message

PNG = b"\x89PNG"
ADDRESSES = ("http://", "https://")


class Album:
    """Of one chat. Each picture is fetched once, however many choices are asked for, and only where it is needed."""

    def __init__(self, messages: tuple[Message, ...], pictures: Pictures) -> None:
        self._messages = messages
        self._pictures = pictures
        self._fetching = asyncio.Lock()
        self._missing = [one for message in messages for one in message.media if addressed(one)]

    async def pasted(self) -> tuple[Message, ...]:
        """The chat's messages with every picture in them. Raises InvalidValue that names the part."""
        async with self._fetching:
            if self._missing:
                await self._paste()
        return self._messages

    async def _paste(self) -> None:
        most = self._pictures.most
        if len(self._missing) > most:
            message = f"The chat names {len(self._missing)} images by an address; at most {most} are fetched"
            raise InvalidValue(message, param=self._missing[most].place)
        fetched = {one.place: as_data(await self._pictures.read(one)) for one in self._missing}
        self._messages = tuple(
            replace(message, media=tuple(replace(one, url=fetched.get(one.place, one.url)) for one in message.media))
            for message in self._messages
        )
        self._missing = []


def addressed(media: Media) -> bool:
    return media.kind == "image" and media.url.strip().lower().startswith(ADDRESSES)


def as_data(picture: bytes) -> str:
    kind = "png" if picture.startswith(PNG) else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode('ascii')}"
