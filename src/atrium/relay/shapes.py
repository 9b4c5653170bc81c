"""What shapes an answer: schemas reduced to what can be enforced, compiled before the engine sees them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from atrium.core.errors import InvalidSchema, InvalidValue, Unsupported
from atrium.core.models import Vocabulary
from atrium.core.requests import Chat, Constraint, FreeText, JsonSchema, Sampling, Tool, ToolMode
from atrium.decisions.enforce_schema import enforce_schema
from atrium.dialects.llamacpp.grammar import Frame, Thoughts, chat_grammar, constraint_grammar, lasting_grammar
from atrium.dialects.llamacpp.tools import offered

GRAMMAR_PATIENCE = 10.0
SMALL_SHAPE = 2048
"""Bytes of JSON up to which compiling a grammar is quicker than handing it to a thread."""
MOST_SHAPES = 4
"""All tools of a request together are at most as large as so many of the largest schemas."""
MOST_COMPILING = 2
"""Threads that compile large grammars at the same time."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A grammar, empty for free text, and what of the request it does not keep."""

    grammar: str = ""
    dropped: tuple[str, ...] = ()


class Shaper:
    def __init__(self, most: int) -> None:
        """`most`: bytes of one schema or grammar."""
        self._most = most
        self._compiling = asyncio.Semaphore(MOST_COMPILING)

    async def of_chat(self, chat: Chat, vocabulary: Vocabulary, thoughts: Thoughts) -> Shape:
        """Raises InvalidSchema, InvalidValue, Unsupported."""
        tools = offered(chat.tool_use)
        if not tools and isinstance(chat.constraint, FreeText):
            return lasting(chat.sampling, vocabulary)
        shapes = len(str(tools))
        if shapes > MOST_SHAPES * self._most:
            raise InvalidSchema(f"All tools together are larger than {MOST_SHAPES} schemas may be", param="tools")
        frame = Frame(self._most, thoughts, vocabulary.control)
        size = shapes + len(str(chat.constraint))
        shape = await self._compiled(lambda: shape_of(chat, frame), size)
        return with_least(shape, chat.sampling)

    async def of_constraint(self, constraint: Constraint, sampling: Sampling, vocabulary: Vocabulary) -> Shape:
        """Raises as `of_chat` does."""
        if isinstance(constraint, FreeText):
            return lasting(sampling, vocabulary)
        frame = Frame(self._most)

        def compile_() -> Shape:
            kept, dropped = reduced(constraint)
            return Shape(constraint_grammar(kept, frame), dropped)

        return with_least(await self._compiled(compile_, len(str(constraint))), sampling)

    async def _compiled(self, compile_: Callable[[], Shape], size: int) -> Shape:
        """`size` in bytes of all that shapes the answer. Raises InvalidSchema, Unsupported."""
        if size <= SMALL_SHAPE:
            return compile_()
        async with self._compiling:
            try:
                async with asyncio.timeout(GRAMMAR_PATIENCE):
                    return await asyncio.to_thread(compile_)
            except TimeoutError:
                raise Unsupported(
                    f"The schema takes more than {GRAMMAR_PATIENCE:g} s to compile", param="response_format"
                ) from None


def shape_of(chat: Chat, frame: Frame) -> Shape:
    use = chat.tool_use
    constraint, dropped = reduced(chat.constraint)
    if use.mode in (ToolMode.REQUIRED, ToolMode.NAMED):
        # The answer is a call, whatever else was asked for.
        constraint, dropped = FreeText(), ()
    tools = [reduced_tool(tool) for tool in use.tools]
    kept = replace(chat, constraint=constraint, tool_use=replace(use, tools=tuple(tool for tool, _ in tools)))
    named = {name: None for _, names in tools for name in names}
    return Shape(chat_grammar(kept, frame), (*dropped, *named))


def reduced(constraint: Constraint) -> tuple[Constraint, tuple[str, ...]]:
    """Raises InvalidSchema."""
    if not isinstance(constraint, JsonSchema):
        return constraint, ()
    place = constraint.place
    enforced = enforce_schema(constraint.schema, strict=constraint.strict, place=place)
    return replace(constraint, schema=enforced.schema), tuple(f"{place}.{name}" for name in enforced.dropped)


def reduced_tool(tool: Tool) -> tuple[Tool, tuple[str, ...]]:
    """Raises InvalidSchema."""
    if not tool.parameters:
        return tool, ()
    given = {"type": "object", **tool.parameters}
    enforced = enforce_schema(given, strict=tool.strict, place="tools")
    return replace(tool, parameters=enforced.schema), tuple(f"tools.{name}" for name in enforced.dropped)


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
