"""A model that sees, through the engine's own projector, from the request to the answer."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx2
import ollama
import pytest
from PIL import Image

from tests.gallery.tiny import write_llama, write_projector
from tests.running import RunningServer, running


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningServer]:
    """A server with one model that sees and one that does not."""
    folder = tmp_path_factory.mktemp("seeing")
    for name in ("eye", "blind"):
        (folder / "models" / name).mkdir(parents=True)
        write_llama(folder / "models" / name / f"{name}.gguf", context=2048)
    write_projector(folder / "models" / "eye" / "mmproj-eye.gguf")
    settings = {"ATRIUM_MODELS__ADOPT": str(folder / "models"), "ATRIUM_MODELS__INSTALL_DEFAULTS": "false"}
    with running(folder / "data", **settings) as server, server.client() as client:
        client.post("/api/admin/models/rescan").raise_for_status()
        yield server


def picture(kind: str = "PNG", colour: str = "red", size: tuple[int, int] = (64, 48), mode: str = "RGB") -> str:
    written = io.BytesIO()
    Image.new("RGB", size, colour).convert(mode).save(written, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(written.getvalue()).decode()}"


def ask(server: RunningServer, *urls: str, model: str = "eye", text: str = "What?", **more: Any) -> httpx2.Response:
    parts: list[dict[str, Any]] = [{"type": "text", "text": text}]
    parts += [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    body = {"model": model, "messages": [{"role": "user", "content": parts}], "max_tokens": 8, "temperature": 0, **more}
    with server.client() as client:
        return client.post("/v1/chat/completions", json=body)


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "P"), ("JPEG", "RGB"), ("JPEG", "CMYK"), ("WEBP", "RGB"), ("GIF", "P")],
)
def test_every_kind_of_picture_is_seen(seeing: RunningServer, kind: str, mode: str) -> None:
    answer = ask(seeing, picture(kind, mode=mode))
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["prompt_tokens"] > ask(seeing).json()["usage"]["prompt_tokens"] + 8


def test_what_is_seen_has_a_bearing_on_the_answer_and_more_pictures_cost_more(seeing: RunningServer) -> None:
    red, blue = (ask(seeing, picture(colour=colour), logprobs=True).json() for colour in ("red", "blue"))
    assert red["choices"][0]["logprobs"]["content"] != blue["choices"][0]["logprobs"]["content"]
    both = ask(seeing, picture(colour="red"), picture(colour="blue")).json()
    assert both["usage"]["prompt_tokens"] > red["usage"]["prompt_tokens"]
    assert both["usage"]["completion_tokens"] == 8


def test_choices_and_streams_see_too(seeing: RunningServer) -> None:
    answer = ask(seeing, picture(), n=2, seed=1).json()
    assert [choice["index"] for choice in answer["choices"]] == [0, 1]
    streamed = ask(seeing, picture(), stream=True, stream_options={"include_usage": True})
    assert streamed.text.rstrip().endswith("data: [DONE]")
    assert f'"prompt_tokens":{answer["usage"]["prompt_tokens"]}' in streamed.text.replace(" ", "")


@pytest.fixture
def ollama_sdk(seeing: RunningServer) -> Any:
    return ollama.Client(seeing.url, headers={"Authorization": f"Bearer {seeing.key}"})


BRIEF = {"num_predict": 8, "temperature": 0}


def test_ollamas_chats_see(ollama_sdk: Any) -> None:
    def seen(*colours: str, **more: Any) -> Any:
        images = [picture(colour=colour).partition(",")[2] for colour in colours]
        question = [{"role": "user", "content": "What?", "images": images}]
        return ollama_sdk.chat("eye", question, options=BRIEF, **more)

    whole = seen("red")
    parts = list(seen("red", stream=True))
    assert "".join(part.message.content for part in parts) == whole.message.content
    assert parts[-1].prompt_eval_count == whole.prompt_eval_count
    assert seen("red", "blue").prompt_eval_count > whole.prompt_eval_count > seen().prompt_eval_count + 8


def test_ollamas_generations_see_too(ollama_sdk: Any) -> None:
    image = picture().partition(",")[2]
    blind = ollama_sdk.generate("eye", "What?", options=BRIEF)
    whole = ollama_sdk.generate("eye", "What?", images=[image], options=BRIEF)
    parts = list(ollama_sdk.generate("eye", "What?", images=[image], options=BRIEF, stream=True))
    assert whole.prompt_eval_count > blind.prompt_eval_count + 8
    assert "".join(part.response for part in parts) == whole.response
    assert parts[-1].prompt_eval_count == whole.prompt_eval_count


def test_ollamas_clients_are_told_who_sees_and_what_is_no_picture(seeing: RunningServer, ollama_sdk: Any) -> None:
    assert "vision" in ollama_sdk.show("eye").capabilities
    assert "vision" not in ollama_sdk.show("blind").capabilities
    text = base64.b64encode(b"no picture").decode()
    image = picture().partition(",")[2]
    for path, body in (
        ("/api/chat", {"messages": [{"role": "user", "content": "What?", "images": ["IMAGE"]}]}),
        ("/api/generate", {"prompt": "What?", "images": ["IMAGE"]}),
    ):
        for model, given in (("blind", image), ("eye", text), ("eye", "%%%"), ("eye", "")):
            written = json.dumps({"model": model, "stream": False, **body}).replace("IMAGE", given)
            with seeing.client() as client:
                refused = client.post(path, content=written)
            assert refused.status_code == 400, (path, model, given, refused.text)
            assert "image" in refused.json()["error"]


def test_a_control_token_or_a_mark_beside_a_picture_is_only_text(seeing: RunningServer) -> None:
    plain = ask(seeing, picture(), text="aaa").json()["usage"]["prompt_tokens"]
    for text in ("<|im_end|>", "<__atrium_picture__>", "<__media__>"):
        answer = ask(seeing, picture(), text=text)
        assert answer.status_code == 200, answer.text
        assert answer.json()["usage"]["prompt_tokens"] > plain


def test_a_model_that_does_not_see_refuses_before_anything_is_fetched(seeing: RunningServer) -> None:
    for url in (picture(), "http://nowhere.invalid/x.png", "file:///etc/passwd"):
        refused = ask(seeing, url, model="blind")
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == "messages[0].content[1]"
        assert "no image" in refused.json()["error"]["message"]


def bomb(width: int, height: int) -> str:
    """A small file that says it is a very large picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def cut() -> str:
    whole = io.BytesIO()
    Image.effect_noise((64, 64), 90).save(whole, "PNG")
    return f"data:image/png;base64,{base64.b64encode(whole.getvalue()[:900]).decode()}"


HOSTILE = {
    "a bomb": bomb(60_000, 60_000),
    "a large picture": bomb(9000, 9000),
    "one that was cut off": cut(),
    "a drawing in XML": f"data:image/svg+xml;base64,{base64.b64encode(b'<svg/>').decode()}",
    "a lie about its kind": f"data:image/png;base64,{base64.b64encode(b'%PDF-1.7').decode()}",
    "no base64": "data:image/png;base64,@@@@",
    "nothing": "data:image/png;base64,",
    "plain data": "data:image/png,abc",
    "a file": "file:///etc/passwd",
    "a path": "/etc/passwd",
    "this machine": "http://127.0.0.1:9642/x.png",
    "a cloud's secrets": "http://169.254.169.254/latest/meta-data/",
    "a private network": "http://192.168.0.1/x.png",
    "another spelling": "http://2130706433/x.png",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_picture_or_may_not_be_fetched_is_a_400_with_its_place(seeing: RunningServer, name: str) -> None:
    refused = ask(seeing, picture(), HOSTILE[name])
    assert refused.status_code == 400, refused.text
    assert refused.json()["error"]["param"] == "messages[0].content[2]"


def test_too_many_pictures_are_refused_and_too_long_a_prompt_with_one(seeing: RunningServer) -> None:
    refused = ask(seeing, *[picture()] * 33)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "messages[0].content[33]"
    long = ask(seeing, picture(), text="x" * 2040)
    assert long.status_code == 400
    assert long.json()["error"]["code"] == "context_length_exceeded"


def test_the_models_file_shows_what_it_sees_through(seeing: RunningServer, tmp_path: Path) -> None:
    with seeing.client() as client:
        shown = client.get("/api/admin/models/eye").json()
    assert shown["projector"].endswith("mmproj-eye.gguf")
    assert "vision" in shown["abilities"]
    assert str(tmp_path) not in shown["projector"]
