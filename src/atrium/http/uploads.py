"""Reading a form with files: pushed through a parser as it comes, small files in memory, larger ones on disk.

Source: RFC 7578.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.types import Receive

from atrium.core.errors import InvalidValue, TooLarge, UnsupportedMedia
from atrium.http.reading import BodyBounds, ClientGone

MOST_FIELDS = 100
LONGEST_BOUNDARY = 256


@dataclass(frozen=True, slots=True)
class FormBounds:
    body: BodyBounds
    file: int
    """Bytes of one file."""
    files: int
    spool: int
    """Bytes of a file that are held in memory."""
    field: int
    """Bytes of one field that is no file."""


@dataclass(slots=True)
class SentFile:
    """A file of the form. It is on disk once the form is read."""

    part: str
    """The form's field that it came in."""
    filename: str
    path: Path
    size: int = 0
    held: bytearray = field(default_factory=bytearray)
    hashing: hashlib._Hash = field(default_factory=hashlib.sha256)  # pyright: ignore[reportPrivateUsage] - its type

    @property
    def digest(self) -> str:
        return self.hashing.hexdigest()

    def flush(self) -> None:
        """Blocks."""
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "ab") as file:
            file.write(self.held)
        self.held.clear()


@dataclass(frozen=True, slots=True)
class Form:
    fields: dict[str, str]
    files: list[SentFile]


@asynccontextmanager
async def reading_form(receive: Receive, kind: bytes, bounds: FormBounds, folder: Path) -> AsyncGenerator[Form]:
    """The form of a request whose Content-Type is `kind`; what is left of its files goes at the end of the block.

    Raises UnsupportedMedia, InvalidValue, TooLarge, ClientGone.
    """
    reader = FormReader(boundary_of(kind), bounds, folder)
    try:
        await reader.read(receive)
        yield Form(reader.fields, reader.files)
    finally:
        await asyncio.to_thread(drop, reader.files)


def drop(files: list[SentFile]) -> None:
    for file in files:
        file.path.unlink(missing_ok=True)


def boundary_of(kind: bytes) -> bytes:
    """Raises UnsupportedMedia, InvalidValue."""
    media, options = parse_options_header(kind)
    if media != b"multipart/form-data":
        raise UnsupportedMedia("This takes a form with files", hint="Send multipart/form-data, or JSON")
    boundary = options.get(b"boundary", b"")
    if not 0 < len(boundary) <= LONGEST_BOUNDARY:
        raise InvalidValue("The form's Content-Type names no boundary")
    return boundary


class FormReader:
    def __init__(self, boundary: bytes, bounds: FormBounds, folder: Path) -> None:
        self.fields: dict[str, str] = {}
        self.files: list[SentFile] = []
        self._bounds = bounds
        self._folder = folder
        self._header: list[bytes] = [b"", b""]
        self._headers: dict[bytes, bytes] = {}
        self._field: str | None = None
        self._text = bytearray()
        self._current: SentFile | None = None
        self._full: deque[SentFile] = deque()
        self._whole = False
        self._parts = 0
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_name,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_end": self._form_end,
            },
        )

    async def read(self, receive: Receive) -> None:
        size = 0
        more = True
        while more:
            try:
                async with asyncio.timeout(self._bounds.body.patience):
                    message = await receive()
            except TimeoutError:
                raise InvalidValue(f"The body stopped coming for {self._bounds.body.patience:g} s") from None
            if message["type"] == "http.disconnect":
                raise ClientGone("The client left while it sent its files")
            piece: bytes = message.get("body", b"")
            size += len(piece)
            if size > self._bounds.body.most:
                raise TooLarge(f"The body is larger than {self._bounds.body.most} bytes")
            try:
                self._parser.write(piece)
            except FormParserError as error:
                raise InvalidValue(f"The form is malformed: {error}") from None
            await self._flush()
            more = bool(message.get("more_body"))
        if not self._whole:
            raise InvalidValue("The form ends before its closing boundary")

    async def _flush(self) -> None:
        if self._current is not None and len(self._current.held) > self._bounds.spool:
            self._full.append(self._current)
        while self._full:
            await asyncio.to_thread(self._full.popleft().flush)

    # What the parser calls; nothing here waits.

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > self._bounds.files + MOST_FIELDS:
            raise TooLarge(f"The form has more than {self._bounds.files} files and {MOST_FIELDS} fields")
        self._headers = {}
        self._header = [b"", b""]

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._header[0] += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1] += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._header[0].lower()] = self._header[1]
        self._header = [b"", b""]

    def _headers_finished(self) -> None:
        kind, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        name = options.get(b"name")
        if kind != b"form-data" or name is None:
            raise InvalidValue("A part of the form has no name")
        self._field = name.decode("utf-8", "replace")
        if b"filename" in options:
            if len(self.files) >= self._bounds.files:
                raise TooLarge(f"The form has more than {self._bounds.files} files")
            path = self._folder / f"upload-{secrets.token_hex(16)}"
            self._current = SentFile(self._field, options[b"filename"].decode("utf-8", "replace"), path)
            self.files.append(self._current)
        elif len(self.fields) >= MOST_FIELDS:
            raise TooLarge(f"The form has more than {MOST_FIELDS} fields")

    def _data(self, data: bytes, start: int, end: int) -> None:
        piece = data[start:end]
        file = self._current
        if file is None:
            if len(self._text) + len(piece) > self._bounds.field:
                raise TooLarge(f"The field '{self._field}' is larger than {self._bounds.field} bytes")
            self._text += piece
            return
        file.size += len(piece)
        if file.size > self._bounds.file:
            raise TooLarge(f"A file is larger than {self._bounds.file} bytes", hint="See files.max_upload")
        file.hashing.update(piece)
        file.held += piece

    def _end(self) -> None:
        if self._current is not None:
            self._full.append(self._current)
            self._current = None
        elif self._field is not None:
            self.fields[self._field] = self._text.decode("utf-8", "replace")
            self._text = bytearray()
        self._field = None

    def _form_end(self) -> None:
        self._whole = True
