"""Texts as uploads."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from pathlib import Path

from atrium.core.documents import Status, Store, Upload
from atrium.core.people import Caller
from atrium.services.promises import Documents


def silent(name: str, fields: object) -> None:
    """Events are not what is measured."""


async def taken_in(documents: Documents, store: Store, texts: Sequence[tuple[str, str]], scratch: Path) -> int:
    """Take them in and wait; gives the number of chunks."""
    uploads: list[Upload] = []
    for name, text in texts:
        path = scratch / f"upload-{uuid.uuid4().hex}"
        data = text.encode()
        path.write_bytes(data)
        uploads.append(Upload(name, path, len(data), hashlib.sha256(data).hexdigest()))
    taken = await documents.contents.add(store, uploads, Caller(store.owner_id, store.owner))
    settled = await documents.contents.settled(taken)
    assert all(one.status is Status.INDEXED for one in settled), [one.error for one in settled if one.error]
    return sum(one.chunks for one in settled)
