"""What shapes an answer: schemas reduced to what can be enforced, compiled before the engine sees them."""

from __future__ import annotations

from dataclasses import replace

from atrium.core.errors import InvalidSchema, InvalidValue
from atrium.core.models import Vocabulary
from atrium.core.requests import Chat, Constraint, FreeText, Sampling, ToolMode, ToolUse
from atrium.dialects.llamacpp.grammar import Frame, Thoughts, lasting_grammar
from atrium.dialects.llamacpp.marks import MARKS
from atrium.dialects.llamacpp.markups import Markup
from atrium.dialects.llamacpp.tools import offered
from atrium.relay.compiling import Compiler
from atrium.relay.shape_of import Shape, Wanted, shape_of

MOST_SHAPES = 4
"""All tools of a request together are at most as large as so many of the largest schemas."""
NO_TOOLS = ToolUse(mode=ToolMode.NONE)


class Shaper:
    def __init__(self, most: int, compiler: Compiler) -> None:
        """`most`: bytes of one schema or grammar."""
        self._most = most
        self._compiler = compiler

    def frame(self, vocabulary: Vocabulary, thoughts: Thoughts, markup: Markup) -> Frame:
        """With the control tokens that may stand in an answer of this markup."""
        marks = {
            name: token
            for name, token in vocabulary.control.items()
            if name in MARKS or any(name and name in text for text in markup.texts)
        }
        return Frame(self._most, thoughts, marks, markup)

    async def of_chat(self, chat: Chat, vocabulary: Vocabulary, frame: Frame) -> Shape:
        """Raises InvalidSchema, InvalidValue, Unsupported, QueueFull."""
        tools = offered(chat.tool_use)
        if not tools and isinstance(chat.constraint, FreeText):
            return lasting(chat.sampling, vocabulary)
        if len(str(tools)) > MOST_SHAPES * self._most:
            raise InvalidSchema(f"All tools together are larger than {MOST_SHAPES} schemas may be", param="tools")
        wanted = Wanted(chat.constraint, chat.tool_use, frame)
        return with_least(await self._compiled(wanted), chat.sampling)

    async def of_constraint(self, constraint: Constraint, sampling: Sampling, vocabulary: Vocabulary) -> Shape:
        """Raises as `of_chat` does."""
        if isinstance(constraint, FreeText):
            return lasting(sampling, vocabulary)
        wanted = Wanted(constraint, NO_TOOLS, Frame(self._most))
        return with_least(await self._compiled(wanted), sampling)

    async def _compiled(self, wanted: Wanted) -> Shape:
        return shape_of(wanted) if wanted.harmless else await self._compiler(wanted)


def lasting(sampling: Sampling, vocabulary: Vocabulary) -> Shape:
    """Free text, of a least length where one is asked for. Raises InvalidValue."""
    least = sampling.min_tokens
    if not least or sampling.ignore_eos:
        return Shape()
    if sampling.max_tokens is not None and least > sampling.max_tokens:
        raise InvalidValue(
            f"'min_tokens' ({least}) is more than the answer may have ({sampling.max_tokens})", param="min_tokens"
        )
    return Shape(lasting_grammar(least, vocabulary))


def with_least(shape: Shape, sampling: Sampling) -> Shape:
    """A shape tells by itself when it is complete: no least length can be kept beside it."""
    return replace(shape, dropped=(*shape.dropped, "min_tokens")) if sampling.min_tokens else shape
