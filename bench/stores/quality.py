"""How well stores find: recall and nDCG of known items in a real corpus, by vector, by words and by both."""

from __future__ import annotations

import math
from pathlib import Path

from atrium.app import Environment, opened
from atrium.core.documents import Mode, Query, Store
from atrium.core.people import Caller
from atrium.core.trails import Trail
from atrium.services.promises import Documents
from atrium.services.stores import NewStore
from atrium.settings.load import load
from bench.stores.corpus import Page, pages
from bench.stores.files import silent, taken_in

PAGES = 100
TOP = 10


async def quality_rows(data_dir: Path) -> list[tuple[str, str, str]]:
    corpus = pages(data_dir, PAGES)
    async with opened(load(None, data_dir, {}), Environment(), tell=silent) as atrium:
        documents = atrium.services.documents
        admin = await atrium.storage.users.find("admin")
        assert admin is not None
        caller = Caller(admin.id, admin.name)
        store = await documents.stores.create(NewStore("manual pages"), caller)
        await taken_in(documents, store, [(f"{page.name}.txt", page.text) for page in corpus], atrium.folder.tmp)
        rows = [(f"{len(corpus)} pages", f"{(await documents.stores.tally(store.id)).chunks} chunks", "")]
        for mode in Mode:
            recall1, recall10, gain = await measured(documents, store, mode, corpus, caller)
            rows.append((mode.value, f"recall@1 {recall1:.3f}, recall@10 {recall10:.3f}, nDCG@10 {gain:.3f}", ""))
        await documents.contents.delete_store(store.id, caller)
    return rows


async def measured(
    documents: Documents, store: Store, mode: Mode, corpus: list[Page], caller: Caller
) -> tuple[float, float, float]:
    """Recall at one and at ten, and nDCG at ten, by documents: a document ranks as its best chunk does."""
    first = within = 0
    gain = 0.0
    for page in corpus:
        hits = await documents.search.within(store, Query(page.question, TOP * 5, 0.0, mode), caller, Trail())
        names = list(dict.fromkeys(hit.filename for hit in hits))[:TOP]
        if f"{page.name}.txt" in names:
            rank = names.index(f"{page.name}.txt") + 1
            first += rank == 1
            within += 1
            gain += 1 / math.log2(rank + 1)
    return first / len(corpus), within / len(corpus), gain / len(corpus)
