"""The JSON Schema Test Suite: what is enforced admits only what is valid, and the default model keeps to it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest
from jsonschema import Draft202012Validator

from atrium.core.errors import InvalidSchema
from atrium.decisions.enforce_schema import CONSTRAINING, enforce_schema
from tests.running import RunningServer
from tests.schema_suite import Group, groups

CHAT = "smollm2-135m-instruct"
FORMATS = tuple(f"optional/format/{name}" for name in ("date", "time", "date-time", "uuid"))
KEYWORDS = (
    "type",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "prefixItems",
    "minItems",
    "maxItems",
    "enum",
    "const",
    "anyOf",
    "oneOf",
    "allOf",
    "ref",
    "minLength",
    "maxLength",
    "pattern",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "boolean_schema",
    "infinite-loop-detection",
    *FORMATS,
)
UNSUPPORTED = tuple(sorted(CONSTRAINING - {"if", "then", "else", "dependencies", "$dynamicRef", "$recursiveRef"}))
AT_ONCE = 8
TOKENS = 40


@pytest.fixture(scope="module")
def supported() -> list[Group]:
    return groups(*KEYWORDS)


def is_valid(schema: Any, value: Any) -> bool:
    judge: Any = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    return judge.is_valid(value)


def example(group: Group) -> str:
    return json.dumps(next((value for value, valid in group.cases if valid), 1))


def shaped(schema: Any, *, strict: bool = False) -> Any:
    return {"type": "json_schema", "json_schema": {"name": "s", "schema": schema, "strict": strict}}


def test_what_is_enforced_admits_only_what_the_suite_calls_valid(supported: list[Group]) -> None:
    enforced = 0
    for group in supported:
        try:
            schema = enforce_schema(group.schema, strict=True, place="response_format").schema
        except InvalidSchema as refused:
            told = refused.message
            assert any(why in told for why in ("leads out", "admits no", "cannot be enforced", "told apart")), told
            continue
        enforced += 1
        for value, valid in group.cases:
            assert valid or not is_valid(schema, value) or group.name.startswith("optional/format"), group.name
    assert enforced > 130


def test_what_cannot_be_enforced_is_refused_by_name() -> None:
    found = groups(*(name for name in UNSUPPORTED if name not in ("minContains", "maxContains")), "if-then-else")
    assert len(found) > 100
    for group in found:
        if not CONSTRAINING & set(str(group.schema).split("'")):
            continue
        with pytest.raises(InvalidSchema) as refused:
            enforce_schema(group.schema, strict=True, place="response_format")
        named = [keyword for keyword in CONSTRAINING if f"'{keyword}'" in refused.value.message]
        told = refused.value.message
        assert named or "leads out" in told or "told apart" in told, (group.name, told)


async def test_whatever_the_default_model_writes_fits_the_schema(server: RunningServer, supported: list[Group]) -> None:
    """Every schema of the suite that is accepted; an answer that was cut by its length is no JSON yet."""
    turns = asyncio.Semaphore(AT_ONCE)
    whole: list[str] = []
    refused: list[str] = []
    async with openai.AsyncOpenAI(
        base_url=f"{server.url}/v1", api_key=server.key, max_retries=0, timeout=300
    ) as client:

        async def ask(group: Group) -> None:
            async with turns:
                try:
                    answer = await client.chat.completions.create(
                        model=CHAT,
                        messages=[{"role": "user", "content": f"Repeat this JSON: {example(group)}"}],
                        response_format=shaped(group.schema, strict=True),
                        max_tokens=TOKENS,
                        temperature=0,
                    )
                except openai.BadRequestError as error:
                    assert error.param == "response_format", group.name
                    refused.append(group.name)
                    return
            (choice,) = answer.choices
            if choice.finish_reason == "stop":
                value = json.loads(choice.message.content or "")
                assert is_valid(group.schema, value), (group.name, value)
                whole.append(group.name)

        await asyncio.gather(*(ask(group) for group in supported))
    assert len(refused) < 40
    assert len(whole) > len(supported) // 3, len(whole)
