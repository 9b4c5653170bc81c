"""`atrium chat`: a conversation in the terminal. Ctrl-C ends the answer, not the conversation."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Annotated

import httpx2
import typer

from atrium.cli.door import Door, door, told
from atrium.cli.options import FAILURE, Config, DataDir, loaded, run
from atrium.core.errors import AtriumError, InvalidValue, UpstreamFailed

COMMANDS = "/exit ends, /clear forgets, /model NAME changes the model, /help shows this; Ctrl-C stops an answer"
DATA = "data: "


@dataclass(slots=True)
class Conversation:
    model: str
    messages: list[dict[str, str]] = field(default_factory=list[dict[str, str]])

    def body(self) -> dict[str, object]:
        named = {"model": self.model} if self.model else {}
        return {**named, "messages": self.messages, "stream": True}


def chat_command(
    model: Annotated[str, typer.Argument(metavar="[MODEL]", help="The model; the default one without")] = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Talk to a model. Without a terminal: one question on standard input, its answer on standard output."""

    async def work() -> bool:
        async with door(loaded(data_dir, config)) as api:
            conversation = Conversation(model)
            if sys.stdin.isatty():
                await talk(api, conversation)
                return True
            question = sys.stdin.read()
            if not question.strip():
                raise InvalidValue("Nothing was asked", hint='Ask with: echo "a question" | atrium chat')
            return await answer(api, conversation, question)

    if not run(work()):
        raise typer.Exit(FAILURE)


async def talk(api: Door, conversation: Conversation) -> None:
    print(f"Talking to {conversation.model or 'the default model'}. {COMMANDS}.")
    while True:
        try:
            line = await asyncio.to_thread(input, "> ")
        except (EOFError, KeyboardInterrupt):
            print()
            return
        if line.strip() == "/exit":
            return
        if line.startswith("/"):
            obey(line, conversation)
        elif line.strip():
            await answer(api, conversation, line)


def obey(line: str, conversation: Conversation) -> None:
    word, _, rest = line.strip().partition(" ")
    if word == "/clear":
        conversation.messages.clear()
        print("Forgotten.")
    elif word == "/model" and rest:
        conversation.model = rest.strip()
        print(f"Now talking to {conversation.model}.")
    else:
        print(f"{COMMANDS}.")


async def answer(api: Door, conversation: Conversation, question: str) -> bool:
    """Print an answer as it comes; True when it came whole. What was said so far stays in the conversation."""
    conversation.messages.append({"role": "user", "content": question})
    said: list[str] = []
    writing = asyncio.current_task()
    loop = asyncio.get_running_loop()
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True
        if writing:
            writing.cancel()

    loop.add_signal_handler(signal.SIGINT, stop)
    try:
        async with aclosing(pieces(api, conversation)) as texts:
            async for text in texts:
                said.append(text)
                print(text, end="", flush=True)
        print()
    except asyncio.CancelledError:
        if not stopped or not writing:
            raise
        writing.uncancel()
        print("\n[stopped]")
    except (AtriumError, httpx2.TransportError) as error:
        print(f"\n[the answer broke off: {error}]" if said else f"[{error}]", file=sys.stderr)
        return False
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        conversation.messages.append({"role": "assistant", "content": "".join(said)})
    return not stopped


async def pieces(api: Door, conversation: Conversation) -> AsyncGenerator[str]:
    """The answer's text. Raises Told, UpstreamFailed for an error in its midst."""
    async with api.client.stream("POST", "/v1/chat/completions", json=conversation.body()) as stream:
        if not stream.is_success:
            await stream.aread()
            raise told(stream.status_code, stream)
        async for line in stream.aiter_lines():
            if not line.startswith(DATA) or line == f"{DATA}[DONE]":
                continue
            chunk = json.loads(line.removeprefix(DATA))
            if "error" in chunk:
                raise UpstreamFailed(chunk["error"]["message"])
            for choice in chunk["choices"]:
                if text := choice["delta"].get("content"):
                    yield text
