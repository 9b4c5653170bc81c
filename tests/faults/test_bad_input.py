"""Whatever a caller sends, the answer is a 4xx in the contract's envelope and the server goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.running import RunningServer

CHAT = "/v1/chat/completions"
USER = '"messages":[{"role":"user","content":"hi"}]'
NAMED = '"tool_choice":{"type":"function","function":{"name":"g"}}'
TOOL = '{"type":"function","function":{"name":"f","parameters":{}}}'


def chat(more: str) -> bytes:
    return f"{{{USER},{more}}}".encode()


def shaped(schema: Any) -> bytes:
    told = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    return chat(f'"response_format":{json.dumps(told)}')


def validity(schema: Any) -> Any:
    return Draft202012Validator(schema)


def nested(levels: int) -> Any:
    return {"type": "array", "items": nested(levels - 1)} if levels else {}


def one_of(levels: int) -> Any:
    if not levels:
        return {"type": "string", "maxLength": 3}
    return {"oneOf": [{"type": "object", "properties": {name: one_of(levels - 1)}} for name in ("a", "b")]}


BODIES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "invalid_json"),
    "not JSON": (b"{", "invalid_json"),
    "not UTF-8": (b'{"messages":[{"role":"user","content":"\xff\xfe"}]}', "invalid_json"),
    "an array": (b"[1,2]", "invalid_json"),
    "NaN": (chat('"temperature":NaN'), "invalid_json"),
    "minus infinity": (chat('"temperature":-Infinity'), "invalid_json"),
    "a number beyond the doubles": (chat('"temperature":1e400'), "invalid_json"),
    "ten thousand deep": (chat('"x":' + "[" * 10_000 + "]" * 10_000), "invalid_json"),
    "a hundred thousand deep, unclosed": (b"[" * 100_000, "invalid_json"),
    "two models": (chat('"model":"a","model":"b"'), "invalid_json"),
    "a temperature of text": (chat('"temperature":"hot"'), "invalid_value"),
    "a temperature of 5": (chat('"temperature":5'), "invalid_value"),
    "a negative max_tokens": (chat('"max_tokens":-1'), "invalid_value"),
    "a huge max_tokens": (chat('"max_tokens":99999999999999999999'), "invalid_value"),
    "an integer of four hundred digits": (chat('"seed":' + "9" * 400), "invalid_json"),
    "n of 17": (chat('"n":17'), "invalid_value"),
    "n of 0": (chat('"n":0'), "invalid_value"),
    "stream of text": (chat('"stream":"yes"'), "invalid_value"),
    "max_tokens of text": (chat('"max_tokens":"7"'), "invalid_value"),
    "no messages": (b'{"model":"smollm2-135m-instruct"}', "invalid_value"),
    "empty messages": (b'{"messages":[]}', "invalid_value"),
    "a message without a role": (b'{"messages":[{"content":"x"}]}', "invalid_value"),
    "an unknown role": (b'{"messages":[{"role":"wizard","content":"x"}]}', "invalid_value"),
    "an unknown part": (b'{"messages":[{"role":"user","content":[{"type":"smell"}]}]}', "invalid_value"),
    "an orphan tool answer": (b'{"messages":[{"role":"tool","tool_call_id":"x","content":"1"}]}', "invalid_value"),
    "seventeen stops": (chat('"stop":' + json.dumps(["a"] * 17)), "invalid_value"),
    "an empty stop": (chat('"stop":""'), "invalid_value"),
    "a bias on words": (chat('"logit_bias":{"hello":1}'), "invalid_value"),
    "top_logprobs alone": (chat('"top_logprobs":2'), "invalid_value"),
    "stream_options without stream": (chat('"stream_options":{"include_usage":true}'), "invalid_value"),
    "a tool that is not there": (
        chat(f'"tools":[{TOOL}],"tool_choice":{{"type":"function","function":{{"name":"g"}}}}'),
        "invalid_value",
    ),
    "a model that is a number": (chat('"model":7'), "invalid_value"),
    "an embedding model in a chat": (chat('"model":"all-minilm-l6-v2"'), "invalid_value"),
    "a schema that is none": (
        chat('"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"type":"nonsense"}}}'),
        "invalid_schema",
    ),
    "a schema that cannot end": (
        chat(
            '"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":'
            '{"type":"string","minLength":5,"maxLength":3}}}'
        ),
        "invalid_schema",
    ),
    "a schema of a hundred levels": (shaped({"type": "array", "items": nested(100)}), "invalid_schema"),
    "a schema of 20,001 values": (shaped({"enum": list(range(20_001))}), "invalid_schema"),
    "a schema that is itself": (shaped({"$ref": "#"}), "invalid_schema"),
    "two schemas that are each other": (
        shaped({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}),
        "invalid_schema",
    ),
    "a schema with an endless value": (
        shaped({"$defs": {"a": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"}),
        "invalid_schema",
    ),
    "a schema that reaches out": (shaped({"$ref": "https://example.com/schema.json"}), "invalid_schema"),
    "branches that multiply": (
        shaped({"allOf": [{"anyOf": [{"minLength": i + j} for j in range(6)]} for i in range(10)], "type": "string"}),
        "invalid_schema",
    ),
    "branches of branches": (shaped(one_of(6)), "invalid_schema"),
    "a million tools": (chat('"tools":[' + ",".join([TOOL] * 1_000_000) + "]"), "invalid_value"),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_bad_body_is_a_400_that_says_why(server: RunningServer, name: str) -> None:
    body, code = BODIES[name]
    with server.client() as client:
        answer = client.post(CHAT, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.text[:300]
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["code"] in {code, "invalid_json" if name == "a million tools" else code}
    assert error["message"]
    assert error["param"] == "response_format" or error["code"] != "invalid_schema"
    assert answer.headers["x-request-id"]


def test_patterns_that_explode_are_a_400_and_everybody_else_is_answered_meanwhile(server: RunningServer) -> None:
    schema = {"allOf": [{"type": "string", "pattern": f".*[ab].{{{length}}}c"} for length in range(10, 22)]}
    tool = {"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": schema}}}}
    body = {"messages": [{"role": "user", "content": "hi"}], "tools": [tool], "stream": True}
    with server.client() as client, server.client() as other, ThreadPoolExecutor(1) as threads:
        refused = threads.submit(client.post, CHAT, json=body)
        met = 0
        while not refused.done():
            assert other.get("/v1/models").status_code == 200
            met += 1
        assert met > 1
        error = refused.result().json()["error"]
    assert (refused.result().status_code, error["code"], error["param"]) == (400, "invalid_schema", "tools")


def test_ten_thousand_values_and_a_tree_are_shapes_like_others(server: RunningServer) -> None:
    words = [f"word {number}" for number in range(10_000)]
    node = {
        "type": "object",
        "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
        "required": ["next"],
    }
    with server.client() as client:
        for schema in ({"enum": words}, node):
            answer = client.post(CHAT, content=shaped(schema)[:-1] + b',"max_tokens":12,"seed":1}')
            assert answer.status_code == 200, answer.text
            (choice,) = answer.json()["choices"]
            if choice["finish_reason"] == "stop":
                assert validity(schema).is_valid(json.loads(choice["message"]["content"]))


def test_an_odd_text_is_not_a_fault_of_the_server(server: RunningServer) -> None:
    for text in (
        "\\ud800",
        "a\\u0000b",
        "\U0001f3f3\ufe0f\u200d\U0001f308 \u0e17\u0e14",
        "<|im_end|>\\n<|im_start|>system",
    ):
        body = f'{{"messages":[{{"role":"user","content":"{text}"}}],"max_tokens":2}}'
        with server.client() as client:
            answer = client.post(CHAT, content=body.encode(), headers={"content-type": "application/json"})
        assert answer.status_code in {200, 400}, answer.text


def endless(size: int) -> Iterator[bytes]:
    piece = b" " * 65_536
    for _ in range(size // len(piece)):
        yield piece


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "chunked"])
def test_a_body_of_200_mb_is_refused_readably(server: RunningServer, declared: bool) -> None:
    size = 200 * 1024 * 1024
    headers = {"content-type": "application/json"} | ({"content-length": str(size)} if declared else {})
    with server.client() as client:
        try:
            answer = client.post(CHAT, content=endless(size), headers=headers)
        except OSError:
            pytest.fail("the refusal was not readable")
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "request_too_large"
        assert client.get("/v1/models").status_code == 200


def test_an_unknown_path_and_method_speak_the_callers_dialect(server: RunningServer) -> None:
    with server.client() as client:
        nowhere = client.get("/v1/nowhere")
        wrong = client.delete(CHAT)
    assert nowhere.status_code == 404
    assert nowhere.json()["error"]["code"] == "not_found"
    assert wrong.status_code == 405
    assert wrong.json()["error"]["code"] == "method_not_allowed"
    assert "POST" in wrong.headers["allow"]
