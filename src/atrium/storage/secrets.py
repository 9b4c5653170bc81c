"""The pepper: what makes stored key hashes useless to who has only the database."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from atrium.core.errors import ConfigError

PEPPER_BYTES = 32


def read_pepper(folder: Path, given: str | None) -> bytes:
    """`given` (64 hex digits, from ATRIUM_PEPPER), else the file in `folder`, made at the first start.

    Raises ConfigError.
    """
    if given:
        try:
            pepper = bytes.fromhex(given.strip())
        except ValueError:
            pepper = b""
        if len(pepper) != PEPPER_BYTES:
            raise ConfigError("ATRIUM_PEPPER must be 64 hex digits", hint="Make one with: openssl rand -hex 32")
        return pepper
    path = folder / "pepper"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        pepper = path.read_bytes()
        if len(pepper) != PEPPER_BYTES:
            raise ConfigError(f"{path} is damaged", hint="Put it back from your backup") from None
        return pepper
    with os.fdopen(descriptor, "wb") as file:
        pepper = secrets.token_bytes(PEPPER_BYTES)
        file.write(pepper)
        file.flush()
        os.fsync(file.fileno())
    return pepper


def fingerprint(pepper: bytes) -> str:
    """Tells two peppers apart without telling either."""
    return hmac.new(pepper, b"atrium pepper", hashlib.sha256).hexdigest()[:32]
