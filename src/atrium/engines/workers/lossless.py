"""Tokens that give back every text, also where a vocabulary lacks some of its bytes.

Small vocabularies have no token for bytes that were rare in their training text, and their tokenizer drops these. Such
a byte is written as three tokens: the vocabulary's last control token, which no text ever becomes, and two hexadecimal
digits. All ids stay within the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

HEX = b"0123456789abcdef"
BLANK = b" "


class Vocabulary(Protocol):
    @property
    def pieces(self) -> tuple[bytes, ...]:
        """Text of each token, control tokens by their names."""
        ...

    def tokens(self, raw: bytes) -> list[int]: ...


@dataclass(slots=True)
class Lossless:
    vocabulary: Vocabulary
    mark: int | None
    """The last control token; None: the vocabulary has none, and bytes that it lacks are lost."""
    leads: bool = field(init=False)
    """Its tokenizer puts a blank in front of every text."""
    _bytes: dict[int, int] = field(init=False)
    """Token of each byte that has one of its own."""
    _lacking: frozenset[int] = field(init=False)

    def __post_init__(self) -> None:
        self._bytes = {
            piece[0]: token for token, piece in reversed(list(enumerate(self.vocabulary.pieces))) if len(piece) == 1
        }
        self._lacking = frozenset(range(256)) - self._bytes.keys()
        self.leads = self._joined(self.vocabulary.tokens(b"a")) == b" a"

    def encode(self, text: str) -> list[int]:
        """No start or end token; nothing in the text becomes a control token."""
        raw = text.encode()
        ids = self.vocabulary.tokens(raw) if raw else []
        if self.mark is None or sum(map(len, map(self.vocabulary.pieces.__getitem__, ids))) == len(raw) + self.leads:
            return ids
        return list(self._mended(raw, ids, self.mark))

    def decode(self, ids: Sequence[int]) -> str:
        """Control tokens by their names; what is no whole character becomes U+FFFD."""
        raw = self._joined(ids) if self.mark is None or self.mark not in ids else b"".join(self._read(ids, self.mark))
        return (raw.removeprefix(BLANK) if self.leads else raw).decode("utf-8", "replace")

    def ends(self, text: str) -> bytes:
        """For each token the number of whole characters up to its end, as little-endian 32-bit numbers.

        The last is the text's length. Where tokens do not tell their place, they are laid evenly over the text.
        """
        raw = text.encode()
        if not raw:
            return b""
        ids = self.encode(text)
        lengths = np.fromiter((len(self.vocabulary.pieces[token]) for token in ids), np.int64, len(ids))
        places = np.cumsum(lengths) - self.leads
        if len(places) and places[-1] == len(raw):
            starts = (np.frombuffer(raw, np.uint8) & 0xC0) != 0x80
            begun = np.concatenate(([0], np.cumsum(starts)))[np.maximum(places, 0)]
            cut = np.concatenate((starts, [True]))[np.maximum(places, 0)]
            ends = begun - ~cut
        else:
            ends = np.ceil(np.arange(1, len(ids) + 1) * (len(text) / max(1, len(ids))))
        ends = np.minimum(ends, len(text)).astype("<u4")
        if len(ends):
            ends[-1] = len(text)
        return ends.tobytes()

    def _joined(self, ids: Sequence[int]) -> bytes:
        return b"".join(map(self.vocabulary.pieces.__getitem__, ids))

    def _mended(self, raw: bytes, ids: Sequence[int], mark: int) -> Iterator[int]:
        """The tokens with those of the bytes that were dropped between them. A byte that is lacking is in no piece."""
        place = 0
        for count, token in enumerate(ids):
            while place < len(raw) and raw[place] in self._lacking:
                yield from self._spelled(raw[place], mark)
                place += 1
            yield token
            place += len(self.vocabulary.pieces[token]) - (self.leads and not count)
        for byte in raw[place:]:
            if byte in self._lacking:
                yield from self._spelled(byte, mark)

    def _spelled(self, byte: int, mark: int) -> tuple[int, ...]:
        return (mark, self._bytes[HEX[byte >> 4]], self._bytes[HEX[byte & 15]])

    def _read(self, ids: Sequence[int], mark: int) -> Iterator[bytes]:
        pieces = self.vocabulary.pieces
        place = 0
        while place < len(ids):
            digits = b"".join(pieces[token] for token in ids[place + 1 : place + 3])
            if ids[place] == mark and len(digits) == 2 and all(digit in HEX for digit in digits):
                yield bytes.fromhex(digits.decode())
                place += 3
            else:
                yield pieces[ids[place]]
                place += 1
