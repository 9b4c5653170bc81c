"""What kind of file it is, by its first bytes and its name. The bytes win where they are clear."""

from __future__ import annotations

from enum import Enum
from pathlib import PurePosixPath


class Format(Enum):
    """What a parser is told; the value is the media type."""

    TEXT = "text/plain"
    HTML = "text/html"
    PDF = "application/pdf"
    RTF = "application/rtf"
    MAIL = "message/rfc822"
    DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
    PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
    ODT = "application/vnd.oasis.opendocument.text"
    ODS = "application/vnd.oasis.opendocument.spreadsheet"
    ODP = "application/vnd.oasis.opendocument.presentation"
    EPUB = "application/epub+zip"
    DOC = "application/msword"
    XLS = "application/vnd.ms-excel"
    PPT = "application/vnd.ms-powerpoint"
    MSG = "application/vnd.ms-outlook"


PACKED = {
    ".docx": Format.DOCX,
    ".docm": Format.DOCX,
    ".xlsx": Format.XLSX,
    ".xlsm": Format.XLSX,
    ".pptx": Format.PPTX,
    ".pptm": Format.PPTX,
    ".odt": Format.ODT,
    ".ods": Format.ODS,
    ".odp": Format.ODP,
    ".epub": Format.EPUB,
}
INSIDE = (
    (b"word/", Format.DOCX),
    (b"xl/", Format.XLSX),
    (b"ppt/", Format.PPTX),
    (b"mimetypeapplication/epub+zip", Format.EPUB),
    (b"mimetypeapplication/vnd.oasis.opendocument.text", Format.ODT),
    (b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet", Format.ODS),
    (b"mimetypeapplication/vnd.oasis.opendocument.presentation", Format.ODP),
)
COMPOUND = {".doc": Format.DOC, ".xls": Format.XLS, ".ppt": Format.PPT, ".msg": Format.MSG}
ENDINGS = {
    **{kind.value: ending for ending, kind in reversed((PACKED | COMPOUND).items())},
    Format.HTML.value: ".html",
    Format.MAIL.value: ".eml",
}
"""How files of a media type are called; what is not here tells by its first bytes."""
HTML_NAMES = frozenset({".html", ".htm", ".xhtml"})
ZIP = b"PK\x03\x04"
COMPOUND_FILE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
"""Byte order marks: what follows is text, zeros or not."""
LOOKED_AT = 64 * 1024
"""Bytes of a file's beginning that are enough."""


def tell_format(head: bytes, filename: str) -> Format | None:
    """None for what holds no text that can be read, such as pictures, sound, programs and bare archives."""
    name = PurePosixPath(filename.lower()).suffix
    if b"%PDF-" in head[:1024]:
        return Format.PDF
    if head.startswith(ZIP):
        return PACKED.get(name) or next((kind for sign, kind in INSIDE if sign in head), None)
    if head.startswith(COMPOUND_FILE):
        return COMPOUND.get(name)
    if head.startswith(b"{\\rtf"):
        return Format.RTF
    if not head.startswith(MARKS) and b"\0" in head:
        return None
    if name in PACKED or name in COMPOUND or name == ".pdf":
        # It calls itself what it is not: the parser says what is wrong with it.
        return PACKED.get(name) or COMPOUND.get(name) or Format.PDF
    if name == ".eml":
        return Format.MAIL
    start = head[:1024].lstrip().lower()
    if name in HTML_NAMES or start.startswith((b"<!doctype html", b"<html")):
        return Format.HTML
    return Format.TEXT
