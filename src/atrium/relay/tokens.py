"""Token ids from a runner's tokenizer, which needs no slot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from atrium.core.endpoints import Runner
from atrium.core.errors import EngineFailed, EngineSilent, InvalidValue, UpstreamFailed
from atrium.core.models import Vocabulary
from atrium.dialects.llamacpp.request import detokenize_body, tokenize_body
from atrium.dialects.llamacpp.stream import content_of, failure_of, tokens_of
from atrium.dialects.llamacpp.template import Piece
from atrium.relay.deadlines import Deadlines
from atrium.relay.send import Answer, posted

LONGEST_TEXT = 6 * 256
"""Bytes of JSON that one token's text may take."""
BYTES_PER_ID = 12
"""More than any id takes in the tokenizer's JSON."""
FRAME = 1024
"""Bytes of that JSON beside the ids, and of a refusal."""


@dataclass(frozen=True, slots=True)
class Counted:
    """Token ids; `ids` is empty where there are far more than were wanted, and `count` still true."""

    ids: tuple[int, ...]
    count: int


@dataclass(frozen=True, slots=True)
class Tokenizer:
    runner: Runner
    deadlines: Deadlines
    most: int
    """Ids that are wanted of one text; of a longer one only their number may be told."""

    async def __call__(self, content: list[Piece] | str, *, special: bool) -> Counted:
        """Text never becomes a control token; `special` adds the model's start and end tokens.

        Raises NotSent, EngineFailed, UpstreamFailed.
        """
        raw, commas = await self._answer(tokenize_body(content, special=special))
        if raw:
            ids = tokens_of(raw)
            return Counted(tuple(ids), len(ids))
        if commas < self.most:
            raise EngineFailed("The engine's tokenizer answered what cannot be read")
        return Counted((), commas + 1)

    async def _answer(self, body: bytes) -> tuple[bytes, int]:
        try:
            async with posted(self.runner.socket, "/tokenize", body, self.deadlines) as answer:
                raw, commas = await bounded_body(answer, FRAME + BYTES_PER_ID * self.most)
        except EngineSilent as silent:
            # Nothing was begun that could not be begun again on a fresh runner.
            raise EngineFailed(silent.message) from None
        if answer.status != 200:
            raise UpstreamFailed(f"The engine could not tokenise the request: {failure_of(raw)}")
        return raw, commas


async def text_of(ids: Sequence[int], runner: Runner, deadlines: Deadlines) -> str:
    """What token ids stand for. Raises NotSent, EngineFailed, UpstreamFailed."""
    async with posted(runner.socket, "/detokenize", detokenize_body(ids), deadlines) as answer:
        raw, _ = await bounded_body(answer, FRAME + LONGEST_TEXT * len(ids))
    if answer.status != 200:
        raise UpstreamFailed(f"The engine could not write the tokens as text: {failure_of(raw)}")
    return content_of(raw)


async def bounded_body(answer: Answer, most: int) -> tuple[bytes, int]:
    """The body, empty when it is larger than `most` bytes, and how many commas it has."""
    pieces: list[bytes] = []
    size = commas = 0
    while piece := await answer.piece():
        size += len(piece)
        commas += piece.count(b",")
        if size > most:
            pieces.clear()
        else:
            pieces.append(piece)
    return b"".join(pieces), commas


def known(ids: Sequence[int], vocabulary: Vocabulary, param: str) -> Sequence[int]:
    """Raises InvalidValue for an id outside of the model's vocabulary."""
    least, most = min(ids, default=0), max(ids, default=0)
    if least < 0 or most >= vocabulary.size:
        raise InvalidValue(
            f"'{param}' has token id {least if least < 0 else most}, but this model's vocabulary has {vocabulary.size}",
            hint="Ids must come from the model's own tokenizer; send text instead",
            param=param,
        )
    return ids


def wrapped(ids: Sequence[int], vocabulary: Vocabulary) -> tuple[int, ...]:
    """With the model's own start and end tokens, as its tokenizer adds them to a text."""
    start = (vocabulary.bos,) if vocabulary.add_bos and vocabulary.bos is not None else ()
    end = (vocabulary.eos,) if vocabulary.add_eos and vocabulary.eos is not None else ()
    return (*start, *ids, *end)


def unwrapped(ids: Sequence[int], vocabulary: Vocabulary) -> range:
    """Places of the ids that are the text's own: all but the start and end tokens that the tokenizer added."""
    start = int(vocabulary.add_bos and list(ids[:1]) == [vocabulary.bos])
    end = int(vocabulary.add_eos and list(ids[start:][-1:]) == [vocabulary.eos])
    return range(start, len(ids) - end)


def start_of(vocabulary: Vocabulary) -> tuple[int, ...]:
    """For an empty prompt: a model needs something to go on from."""
    start = vocabulary.bos if vocabulary.bos is not None else vocabulary.eos
    return (start or 0,)


def ids_alone(pieces: list[Piece] | str) -> tuple[int, ...] | None:
    """The prompt itself where it needs no tokenizer."""
    if isinstance(pieces, str):
        return None if pieces else ()
    ids = tuple(piece for piece in pieces if isinstance(piece, int))
    return ids if len(ids) == len(pieces) else None
