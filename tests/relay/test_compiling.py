"""Shapes that explode cost a child and nobody else."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import psutil
import pytest

from atrium.core.errors import InvalidSchema
from atrium.core.requests import Gbnf, JsonSchema, ToolMode, ToolUse
from atrium.dialects.llamacpp.grammar import Frame
from atrium.relay.compiling import PROGRAM, Compiler
from atrium.relay.shape_of import Wanted

EXPLODES = {"allOf": [{"type": "string", "pattern": f".*[ab].{{{length}}}c"} for length in range(10, 30)]}
"""Eight hundred bytes; the states of what they have in common double with each."""


def wanted(schema: Any) -> Wanted:
    return Wanted(JsonSchema(schema), ToolUse(mode=ToolMode.NONE), Frame(10_000))


def children() -> set[psutil.Process]:
    return {child for child in psutil.Process().children() if PROGRAM in child.cmdline()}


async def test_what_explodes_is_given_up_by_name_and_the_next_shape_is_compiled() -> None:
    before = children()
    async with Compiler(os.environ, patience=0.3) as compiler:
        with pytest.raises(InvalidSchema, match="takes more than 0") as refused:
            await compiler(wanted(EXPLODES))
        assert (refused.value.param, bool(refused.value.hint)) == ("response_format", True)
    async with Compiler(os.environ) as compiler:
        shape = await compiler(wanted({"type": "string", "pattern": "a+", "uniqueItems": True}))
        assert "a+" in shape.grammar
        assert shape.dropped == ("response_format.uniqueItems",)
        with pytest.raises(InvalidSchema, match="grammar cannot be read") as unread:
            await compiler(Wanted(Gbnf("root ::= ((("), ToolUse(mode=ToolMode.NONE), Frame(10_000)))
        assert unread.value.param == "grammar"
        assert len(children() - before) == 1, "one child does it all while nobody else asks"
    assert children() == before


async def test_a_shape_that_ends_its_child_is_told_apart_from_one_that_cannot_be_compiled() -> None:
    before = children()
    async with Compiler(os.environ) as compiler:
        await compiler(wanted({"type": "string", "pattern": "a"}))
        (child,) = children() - before
        asked = asyncio.create_task(compiler(wanted(EXPLODES)))
        await asyncio.sleep(0)
        child.kill()
        with pytest.raises(InvalidSchema, match="more memory"):
            await asked
        assert (await compiler(wanted({"type": "string", "pattern": "b"}))).grammar


async def test_a_caller_who_leaves_takes_the_work_along() -> None:
    before = children()
    async with Compiler(os.environ) as compiler:
        await compiler(wanted({"type": "string", "pattern": "a"}))
        asked = asyncio.create_task(compiler(wanted(EXPLODES)))
        await asyncio.sleep(0)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        assert asked.cancelled()
    assert children() == before
