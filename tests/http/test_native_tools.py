"""A model whose template writes calls in a markup of its own, through the real engine and OpenAI's own client."""

from __future__ import annotations

import json
from typing import Any

import openai

from tests.running import RunningServer

TEMPLATE = """
base: smollm2-135m-instruct
template: |-
  {% for m in messages %}<|im_start|>{{ m.role }}
  {{ m.content }}{% if m.tool_calls %}[TOOL_CALLS]{{ m.tool_calls | tojson }}{% endif %}<|im_end|>
  {% endfor %}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]<|im_start|>assistant
"""
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 12}, "days": {"enum": [1, 2, 3]}},
            "required": ["city", "days"],
        },
    },
}


def test_forced_calls_come_in_the_templates_own_markup_and_piece_by_piece(server: RunningServer) -> None:
    (server.data_dir / "models" / "markup.yaml").write_text(TEMPLATE)
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.key)
    with server.client() as plain:
        assert "markup" not in plain.post("/api/admin/models/rescan").raise_for_status().json()["problems"]
    asked: Any = {"model": "markup", "messages": [{"role": "user", "content": "Weather in Rome?"}], "seed": 1}
    with client.chat.completions.create(
        **asked, tools=[TOOL], tool_choice="required", parallel_tool_calls=False, stream=True, logprobs=False
    ) as chunks:
        deltas = [chunk.choices[0] for chunk in chunks]
    calls = [call for choice in deltas for call in choice.delta.tool_calls or []]
    assert calls[0].function
    assert (calls[0].function.name, calls[0].function.arguments) == ("weather", "")
    pieces = [call.function.arguments or "" for call in calls if call.function]
    assert json.loads("".join(pieces))["days"] in {1, 2, 3}
    assert len([piece for piece in pieces if piece]) > 2
    assert not "".join(choice.delta.content or "" for choice in deltas)
    assert deltas[-1].finish_reason == "tool_calls"
    (server.data_dir / "models" / "markup.yaml").unlink()
