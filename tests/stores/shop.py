"""A server with a fake embedding model, several people, and what they do with stores."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from tests.running import RunningServer, running

RAG = "/lollms/v1/rag"
MODEL = "vec"
FAKES = {
    "ATRIUM_MODELS__INSTALL_DEFAULTS": "false",
    "ATRIUM_MODELS__ALLOW_FAKE": "true",
    "ATRIUM_MODELS__DEFAULTS__EMBEDDING": MODEL,
    "ATRIUM_MODELS__DEFAULTS__CHAT": "talk",
    "ATRIUM_FILES__MAX_UPLOAD": "4MB",
    "ATRIUM_DOCUMENTS__PARSE_TIMEOUT": "20s",
}
Row = dict[str, Any]


@dataclass(frozen=True)
class Shop:
    server: RunningServer
    people: dict[str, str]
    """Names and keys."""

    def client(self, name: str = "ann") -> httpx2.Client:
        return self.server.client(key=self.people[name], timeout=120)


@contextmanager
def opened(folder: Path, *, pace: str = "0ms", **more: str) -> Generator[Shop]:
    """An open shop. The embedding model takes `pace` for each text."""
    with running(folder, **{**FAKES, **more}) as server:
        server.install(f"fake:{MODEL}?ability=embedding&pace={pace}", "fake:talk?words=8")
        people = {"admin": server.key}
        with server.client() as client:
            for name in ("ann", "bob", "eve"):
                assert client.post("/api/admin/users", json={"username": name}).status_code == 201
                made = client.post("/api/admin/keys", json={"username": name, "alias": "test"})
                people[name] = made.json()["full_key"]
        yield Shop(server, people)


def create(client: httpx2.Client, name: str, **more: Any) -> str:
    made = client.post(f"{RAG}/databases", json={"name": name, **more})
    assert made.status_code == 201, made.text
    return made.json()["id"]


def upload(client: httpx2.Client, store: str, *files: tuple[str, bytes], **more: Any) -> httpx2.Response:
    sent = [("files", file) for file in files]
    return client.post(f"{RAG}/databases/{store}/documents", files=sent, **more)


def brought(client: httpx2.Client, store: str, *files: tuple[str, bytes]) -> list[Row]:
    answer = upload(client, store, *files)
    assert answer.status_code == 201, answer.text
    return answer.json()["data"]


def documents(client: httpx2.Client, store: str) -> list[Row]:
    return client.get(f"{RAG}/databases/{store}/documents").json()["data"]


def query(client: httpx2.Client, store: str, text: str, **more: Any) -> list[Row]:
    answer = client.post(f"{RAG}/query", json={"datastore_id": store, "query": text, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def everything(client: httpx2.Client, store: str) -> list[Row]:
    """All chunks of a store, up to a thousand."""
    return query(client, store, "anything", top_k=1000, min_similarity=0)


def truncated_docx() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("word/document.xml", "<w:document/>" * 100)
    return packed.getvalue()[:-200]


def bomb_docx(size: int = 300_000_000) -> bytes:
    """Small, and unpacked larger than anything may be."""
    packed = io.BytesIO()
    space = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        with archive.open("word/document.xml", "w", force_zip64=True) as part:
            part.write(f'<w:document xmlns:w="{space}"><w:body><w:p><w:r><w:t>'.encode())
            piece = b"A" * 1_000_000
            for _ in range(size // len(piece)):
                part.write(piece)
            part.write(b"</w:t></w:r></w:p></w:body></w:document>")
    return packed.getvalue()
