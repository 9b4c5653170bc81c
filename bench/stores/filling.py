"""Taking documents in, against the same parser and the same embedding engine called directly, in turns."""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path

import httpx2

from atrium.app import Environment, opened
from atrium.core.people import Caller
from atrium.core.requests import Embed
from atrium.decisions.split_text import split_text
from atrium.services.promises import Documents
from atrium.services.stores import NewStore
from atrium.settings.load import load
from bench.stores.corpus import Page, pages
from bench.stores.files import silent, taken_in

DOCUMENTS, ROUNDS, BATCH = 12, 3, 64


async def ingest_rows(data_dir: Path) -> list[tuple[str, str, str]]:
    corpus = pages(data_dir, DOCUMENTS * ROUNDS)
    async with opened(load(None, data_dir, {}), Environment(), tell=silent) as atrium:
        documents = atrium.services.documents
        admin = await atrium.storage.users.find("admin")
        assert admin is not None
        caller = Caller(admin.id, admin.name)
        await atrium.services.embed(Embed("", ("the model is loaded",)), caller)
        (socket,) = [path for path in atrium.folder.run.iterdir() if path.name != "atrium.sock"]
        ours: list[float] = []
        theirs: list[float] = []
        for number in range(ROUNDS):
            some = corpus[number * DOCUMENTS : (number + 1) * DOCUMENTS]
            store = await documents.stores.create(NewStore(f"round {number}"), caller)
            start = time.perf_counter()
            texts = [(f"{page.name}.txt", page.text) for page in some]
            chunks = await taken_in(documents, store, texts, atrium.folder.tmp)
            ours.append(chunks / (time.perf_counter() - start))
            theirs.append(await directly(documents, some, socket, atrium.folder.tmp))
            await documents.contents.delete_store(store.id, caller)
    ratio = statistics.median(one / other for one, other in zip(ours, theirs, strict=True))
    return [
        ("taken in", f"{statistics.median(ours):.1f} chunks/s", ""),
        ("parser and engine called directly", f"{statistics.median(theirs):.1f} chunks/s", ""),
        ("ratio", f"{ratio:.2f}", "≥ 0.8"),
    ]


async def directly(documents: Documents, some: list[Page], socket: Path, scratch: Path) -> float:
    """Chunks a second: parse all, then send their chunks to the engine's own socket in full batches."""
    transport = httpx2.AsyncHTTPTransport(uds=str(socket))
    start = time.perf_counter()
    texts: list[str] = []
    for page in some:
        path = scratch / f"direct-{page.name}"
        await asyncio.to_thread(path.write_text, page.text)
        parsed = await documents.parser.parse(path, f"{page.name}.txt")
        texts += [chunk.text for chunk in split_text(parsed.text, 512, 64)]
    async with httpx2.AsyncClient(transport=transport, base_url="http://engine", timeout=300) as client:
        for first in range(0, len(texts), BATCH):
            answer = await client.post("/v1/embeddings", json={"input": texts[first : first + BATCH]})
            answer.raise_for_status()
    return len(texts) / (time.perf_counter() - start)
