"""Endpoints that remember what they were asked, with windows, tokenizers and faults that a test chooses."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

Json = dict[str, Any]
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
TOO_LONG: Json = {
    "error": {
        "message": "This model's maximum context length is 2048 tokens. Please reduce the length of the messages.",
        "type": "invalid_request_error",
        "param": "messages",
        "code": "context_length_exceeded",
    }
}
WORD = re.compile(r"\s*\S+|\s+$")


def words_of(text: str) -> list[str]:
    """Tokens of these endpoints: a word with the blanks before it."""
    return WORD.findall(text)


def tell_nothing(prompt: str) -> str:
    return "nothing"


def never(number: int) -> int:
    return 0


@dataclass
class Endpoint:
    """`kind`: `openai`, `vllm` (has a tokenizer and tells its window) or `ollama` (has no `/v1`)."""

    kind: str
    model: str
    name: str = ""
    """Of the endpoint; by its kind where it has none."""
    window: int = 2048
    reply: Callable[[str], str] = tell_nothing
    """From the whole prompt to the answer."""
    failures: Callable[[int], int] = never
    """Status for the n-th generation, counted from 1; 0: it succeeds."""
    held: threading.Event | None = None
    """Generations wait for it."""
    prompts: list[str] = field(default_factory=list[str])
    limits: list[tuple[int, float | None]] = field(default_factory=list[tuple[int, float | None]])
    """Tokens that were asked for, and at which temperature."""
    overruns: list[int] = field(default_factory=list[int])
    """Prompt and answer tokens of requests that the window does not hold."""
    silent: bool = False
    """It tells of no usage."""
    strict: bool = False
    """What its window does not hold is refused; Ollama does so where it is told not to truncate."""
    loaded: int = 0
    """The window that an Ollama has the model loaded with; 0: it is not loaded."""
    bodies: list[Json] = field(default_factory=list[dict[str, Any]])
    """What was asked under Ollama's own paths."""
    more: Json = field(default_factory=dict[str, Any])
    """Of its configuration."""
    crowd: int = 0
    """Generations wait until so many are under way."""
    crowded: threading.Event = field(default_factory=threading.Event)
    abandoned: threading.Event = field(default_factory=threading.Event)
    arrived: threading.Event = field(default_factory=threading.Event)
    busiest: int = 0
    busy: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    port: int = 0

    @property
    def config(self) -> Json:
        name = self.name or f"at-{self.kind}"
        return {"name": name, "url": f"http://127.0.0.1:{self.port}", "type": self.kind, **self.more}

    def measure(self, text: str) -> int:
        """In tokens: vLLM's are characters here, the others' words."""
        return len(text) if self.kind == "vllm" else len(words_of(text))

    def cut(self, text: str, most: int) -> str:
        return text[:most] if self.kind == "vllm" else "".join(words_of(text)[:most])

    def get(self, path: str) -> tuple[int, Json]:
        if path in ("/", "/health"):
            return 200, {}
        if self.kind == "ollama" and path == "/api/tags":
            return 200, {"models": [{"name": self.model, "model": self.model, "details": {}}]}
        if self.kind == "ollama" and path == "/api/ps":
            running = [{"name": self.model, "model": self.model, "context_length": self.loaded}]
            return 200, {"models": running if self.loaded else []}
        if self.kind != "ollama" and path == "/v1/models":
            entry: Json = {"id": self.model, "object": "model", "created": 7, "owned_by": "test"}
            return 200, {"data": [entry | ({"max_model_len": self.window} if self.kind == "vllm" else {})]}
        return 404, {"error": "there is nothing here"}

    def post(self, path: str, body: Json) -> tuple[int, Json]:
        if self.kind == "vllm" and path == "/tokenize":
            ids = [ord(character) for character in body["prompt"]]
            return 200, {"tokens": ids, "count": len(ids), "max_model_len": self.window}
        if self.kind == "vllm" and path == "/detokenize":
            return 200, {"prompt": "".join(map(chr, body["tokens"]))}
        if self.kind == "ollama" and path == "/api/show":
            info = {"general.architecture": "test", "test.context_length": self.window}
            return 200, {"model_info": info, "parameters": "", "details": {}}
        if self.kind == "ollama" and path in ("/api/chat", "/api/generate"):
            return self.chat(body)
        if self.kind != "ollama" and path == "/v1/chat/completions":
            return self.generate(body)
        if path == ("/api/embed" if self.kind == "ollama" else "/v1/embeddings"):
            return self.embed(body)
        return 404, {"error": "there is nothing here"}

    def chat(self, body: Json) -> tuple[int, Json]:
        """In Ollama's words."""
        self.bodies.append(body)
        said = [body.get("system", ""), body.get("prompt", "")]
        messages = body.get("messages", [{"content": text} for text in said if text])
        prompt = "\n".join(message["content"] for message in messages)
        window = body.get("options", {}).get("num_ctx") or self.loaded or self.window
        if not prompt:
            reason = "unload" if body.get("keep_alive") == 0 else "load"
            return 200, {"model": self.model, "done": True, "done_reason": reason}
        if self.strict and body.get("truncate") is False and self.measure(prompt) >= window:
            return 400, {"error": "the input length exceeds the context length"}
        return self.generate({**body, "messages": messages})

    def generate(self, body: Json) -> tuple[int, Json]:
        prompt = "\n".join(text_of(message["content"]) for message in body["messages"])
        options = cast("Json", body.get("options", {}))
        most = int(body.get("max_tokens") or options.get("num_predict") or 0)
        with self.lock:
            self.limits.append((most, body.get("temperature", options.get("temperature"))))
            self.prompts.append(prompt)
            number = len(self.prompts)
            self.busy += 1
            self.busiest = max(self.busiest, self.busy)
            if self.measure(prompt) + most > (self.loaded or self.window):
                self.overruns.append(self.measure(prompt) + most)
                if self.strict and self.kind != "ollama":
                    self.busy -= 1
                    return 400, TOO_LONG
        self.arrived.set()
        if self.busy >= self.crowd:
            self.crowded.set()
        try:
            if self.held is not None:
                self.held.wait(30)
            self.crowded.wait(30)
            if status := self.failures(number):
                return status, {"error": {"message": "it failed", "code": "fault"}}
            return 200, self.answer(self.cut(self.reply(prompt), most), self.measure(prompt))
        finally:
            with self.lock:
                self.busy -= 1

    def embed(self, body: Json) -> tuple[int, Json]:
        """A word's letters are its direction: the same words, the same vector."""
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        self.prompts += texts
        vectors = [[float(text.lower().count(letter)) for letter in LETTERS] for text in texts]
        count = sum(map(self.measure, texts))
        if self.kind == "ollama":
            return 200, {"model": self.model, "embeddings": vectors, "prompt_eval_count": count}
        data = [{"object": "embedding", "index": place, "embedding": one} for place, one in enumerate(vectors)]
        usage = {} if self.silent else {"prompt_tokens": count, "total_tokens": count}
        return 200, {"object": "list", "model": self.model, "data": data, "usage": usage}

    def answer(self, text: str, prompt: int) -> Json:
        count = self.measure(text)
        message = {"role": "assistant", "content": text}
        if self.kind == "ollama":
            counts = {} if self.silent else {"prompt_eval_count": prompt, "eval_count": count}
            return {"model": self.model, "message": message, "done": True, "done_reason": "stop", **counts}
        usage: Json = {"prompt_tokens": prompt, "completion_tokens": count, "total_tokens": prompt + count}
        usage = {} if self.silent else usage
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return {"id": "c", "object": "chat.completion", "model": self.model, "choices": [choice], "usage": usage}


def text_of(content: str | list[Json]) -> str:
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


@contextmanager
def serving(endpoint: Endpoint) -> Generator[Endpoint]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self.reply(*endpoint.get(self.path.partition("?")[0]))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self.reply(*endpoint.post(self.path.partition("?")[0], body))

        def reply(self, status: int, body: Json) -> None:
            raw = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            try:
                self.wfile.write(raw)
            except OSError:
                endpoint.abandoned.set()

        def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002 - the library's name

    server = Server(("127.0.0.1", endpoint.port), Handler)
    endpoint.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
