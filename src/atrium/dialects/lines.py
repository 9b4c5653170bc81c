"""Lines of a stream, whatever pieces it comes in."""

from __future__ import annotations

from atrium.core.errors import BadResponse

MOST_LINE = 16 * 1024 * 1024
"""Bytes. A whole answer may be one line."""


class LineSplitter:
    """Fed bytes at any border, gives whole lines without their ends."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Raises BadResponse for a line without end."""
        first, *more = data.split(b"\n")
        self._rest.append(first)
        self._size += len(first)
        if self._size > MOST_LINE:
            raise BadResponse("The endpoint sent a line without end")
        if not more:
            return []
        lines = [b"".join(self._rest), *more[:-1]]
        self._rest, self._size = [more[-1]], len(more[-1])
        return [line.removesuffix(b"\r") for line in lines]

    def flush(self) -> bytes:
        """What stands behind the last line end."""
        rest, self._rest, self._size = b"".join(self._rest), [], 0
        return rest.removesuffix(b"\r")
