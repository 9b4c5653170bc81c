"""Pictures behind addresses, for endpoints that fetch none: fetched once over real HTTP, and only where needed."""

from __future__ import annotations

import asyncio
import base64
import io
import json

import pytest
from PIL import Image

from atrium.core.errors import InvalidValue
from atrium.core.requests import Chat, Media, Message, Role
from atrium.dialects.loss import Loss
from atrium.dialects.ollama.outward import write_chat
from atrium.relay.album import Album
from atrium.relay.pictures import PictureBounds, PictureReader
from tests.relay.test_fetch_media import LENIENT, ok, serving

BOUNDS = PictureBounds(most=2, size=10_000, pixels=100)


def picture(form: str) -> bytes:
    written = io.BytesIO()
    Image.new("RGB", (2, 2), "red").save(written, form)
    return written.getvalue()


def chat(*urls: str) -> Chat:
    media = tuple(Media("image", url, f"messages[0].content[{n}]") for n, url in enumerate(urls))
    return Chat("m", (Message(Role.USER, "look", media),))


def album(said: Chat) -> Album:
    return Album(said.messages, PictureReader(BOUNDS, LENIENT))


async def test_a_picture_is_fetched_once_and_stands_in_the_request() -> None:
    inside = f"data:image/png;base64,{base64.b64encode(picture('PNG')).decode()}"
    async with serving({"/a.jpg": ok(picture("JPEG"))}) as (url, heads):
        said = chat(f"{url}/a.jpg", inside)
        own = album(said)
        first, second = await asyncio.gather(own.pasted(), own.pasted())
    assert first == second
    assert len(heads) == 1
    body = json.loads(write_chat(Chat("m", first), "m", (), Loss("it")))
    images = [base64.b64decode(one) for one in body["messages"][0]["images"]]
    assert images == [picture("JPEG"), picture("PNG")]


async def test_what_is_no_picture_is_not_handed_on() -> None:
    async with serving({"/page": ok(b"<html>")}) as (url, _):
        with pytest.raises(InvalidValue, match="no PNG, JPEG") as refused:
            await album(chat(f"{url}/page")).pasted()
    assert refused.value.param == "messages[0].content[0]"


async def test_more_than_may_be_fetched_are_refused_before_the_first() -> None:
    async with serving({"/a.png": ok(picture("PNG"))}) as (url, heads):
        with pytest.raises(InvalidValue, match="at most 2") as refused:
            await album(chat(*[f"{url}/a.png"] * 3)).pasted()
    assert refused.value.param == "messages[0].content[2]"
    assert heads == []
