"""Prompts with pictures: the engine takes them as one text with a mark for each picture, and the files beside it.

In such a text the engine itself looks for control tokens, so those that a caller wrote are broken up first.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence

from atrium.core.models import Vocabulary
from atrium.dialects.llamacpp.template import Piece

MARK = "<__atrium_picture__>"
"""What the runner is told to take for a picture (`LLAMA_MEDIA_MARKER`)."""
BREAK = "\u200b"
"""A space without width."""


def place_of(number: int) -> int:
    """How picture `number` stands among a prompt's pieces: no token has a negative id."""
    return -1 - number


def pictures_in(pieces: Sequence[Piece]) -> list[int]:
    """Numbers of the pictures, in the order of the prompt."""
    return [-1 - piece for piece in pieces if isinstance(piece, int) and piece < 0]


def without_pictures(pieces: Sequence[Piece]) -> list[Piece]:
    return [piece for piece in pieces if isinstance(piece, str) or piece >= 0]


def picture_prompt(
    pieces: Sequence[Piece], files: Sequence[bytes], vocabulary: Vocabulary, control: re.Pattern[str] | None
) -> dict[str, object]:
    """What `/completion` takes as `prompt`; `control` finds the vocabulary's control tokens."""
    names = {token: name for name, token in vocabulary.control.items()}
    # The engine adds the model's start token itself.
    rest = pieces[1:] if vocabulary.add_bos and pieces[:1] == [vocabulary.bos] else pieces
    text: list[str] = []
    for piece in rest:
        if isinstance(piece, str):
            text.append(broken(piece, control))
        else:
            text.append(MARK if piece < 0 else names.get(piece, ""))
    data = [base64.b64encode(files[number]).decode("ascii") for number in pictures_in(pieces)]
    return {"prompt_string": "".join(text), "multimodal_data": data}


def broken(text: str, names: re.Pattern[str] | None) -> str:
    """With a break in the mark of pictures and in all of these names: none of them is read as what it says."""
    whole = text.replace(MARK, MARK[:1] + BREAK + MARK[1:])
    return whole if names is None else names.sub(lambda found: found.group()[:1] + BREAK + found.group()[1:], whole)
