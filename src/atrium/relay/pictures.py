"""Pictures of a request: read from where it says, checked before anything is unpacked, and given on as the engine knows
them.

The engine's own reader is written in C and knows neither WebP nor turned photographs, so every picture is opened here
first, and one that is not plain is written anew.
"""

from __future__ import annotations

import asyncio
import io
import warnings
from dataclasses import dataclass

from PIL import Image, ImageOps, UnidentifiedImageError

from atrium.core.errors import InvalidValue
from atrium.core.requests import Media
from atrium.decisions.read_base64 import file_of, split_data
from atrium.relay.fetch_media import MediaFetch

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
PLAIN = {("PNG", "RGB"), ("PNG", "L"), ("JPEG", "RGB"), ("JPEG", "L")}
"""Formats and colour modes that are given on as they came."""
ORIENTATION = 0x0112
UPRIGHT = 1
MOST_AT_ONCE = 2
"""Pictures that are unpacked at the same time."""
ADDRESSES = ("http://", "https://")
DATA = "data:"


@dataclass(frozen=True, slots=True)
class PictureBounds:
    most: int
    """In one chat."""
    size: int
    """Bytes of one file."""
    pixels: int
    """Width times height."""


class PictureReader:
    """Implements `core.ports.Pictures`."""

    def __init__(self, bounds: PictureBounds, fetch: MediaFetch) -> None:
        self._bounds = bounds
        self._fetch = fetch
        self._places = asyncio.Semaphore(MOST_AT_ONCE)

    @property
    def most(self) -> int:
        return self._bounds.most

    async def read(self, media: Media) -> bytes:
        """A whole PNG or JPEG. Raises InvalidValue that names the part."""
        data = await self._raw(media)
        async with self._places:
            return await asyncio.to_thread(checked, data, self._bounds, media.place)

    async def _raw(self, media: Media) -> bytes:
        url = media.url.strip()
        if url[: len(DATA)].lower() == DATA:
            if len(url) > self._bounds.size * 4 // 3 + 1024:
                raise InvalidValue(f"The image is larger than {self._bounds.size} bytes", param=media.place)
            _, text = split_data(url, "image", media.place)
            return file_of(text, "image", media.place)
        if url.lower().startswith(ADDRESSES):
            return await self._fetch(url, most=self._bounds.size, place=media.place)
        raise InvalidValue(
            "An image is a data: URI in base64, or an http or https address; others are not allowed", param=media.place
        )


def checked(data: bytes, bounds: PictureBounds, place: str) -> bytes:
    """Blocking. The header tells the size before a pixel is unpacked. Raises InvalidValue."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        with image:
            if image.width * image.height > bounds.pixels:
                raise InvalidValue(
                    f"The image has {image.width} x {image.height} points; at most {bounds.pixels} are taken",
                    param=place,
                )
            image.load()
            if (image.format, image.mode) in PLAIN and image.getexif().get(ORIENTATION, UPRIGHT) == UPRIGHT:
                return data
            written = io.BytesIO()
            upright(image).save(written, "PNG", compress_level=1)
            return written.getvalue()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InvalidValue(f"The image has far more than {bounds.pixels} points", param=place) from None
    except UnidentifiedImageError:
        raise InvalidValue("The image is no PNG, JPEG, WebP or GIF", param=place) from None
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError) as error:
        raise InvalidValue(f"The image cannot be read: {str(error)[:200]}", param=place) from None


def upright(image: Image.Image) -> Image.Image:
    """The first frame, turned as it is meant to be seen, on white where it is see-through."""
    turned = ImageOps.exif_transpose(image)
    if "A" in turned.getbands() or "transparency" in turned.info:
        see_through = turned.convert("RGBA")
        ground = Image.new("RGBA", see_through.size, "white")
        return Image.alpha_composite(ground, see_through).convert("RGB")
    return turned.convert("RGB")
