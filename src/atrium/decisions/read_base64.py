"""Files that stand in a request as base64."""

from __future__ import annotations

import binascii

from atrium.core.errors import InvalidValue

WHITE = str.maketrans("", "", " \t\r\n")


def file_of(text: str, what: str, place: str) -> bytes:
    """`what`: the file in words. Raises InvalidValue that names `place`."""
    try:
        return binascii.a2b_base64(text.translate(WHITE).encode("ascii"), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError):
        raise InvalidValue(f"The {what}'s base64 is not valid", param=place) from None


def split_data(url: str, what: str, place: str) -> tuple[str, str]:
    """Media type and base64 of a `data:` URI. Raises InvalidValue that names `place`."""
    head, comma, text = url.partition(",")
    kind, _, how = head.partition(":")[2].rpartition(";")
    if not comma or how.strip().lower() != "base64":
        raise InvalidValue(f"The data: URI of the {what} must be in base64", param=place)
    return kind.partition(";")[0].strip().lower(), text
