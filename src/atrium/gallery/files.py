"""Files of the models folder: written whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from atrium.core.errors import DiskFull, InstallFailed

BLOCK = 1024 * 1024
FULL = {errno.ENOSPC, errno.EDQUOT}
Advance = Callable[[int], None]
"""Told how many bytes more are done."""


def write_whole(path: Path, data: bytes) -> None:
    """Raises DiskFull, InstallFailed."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
        sync_folder(path.parent)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise failure(error, path) from error


def sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def failure(error: OSError, path: Path) -> InstallFailed:
    if error.errno in FULL:
        free = shutil.disk_usage(path.parent).free
        return DiskFull(
            f"The disk of {path.parent} is full: {free} bytes of space are left", hint="Make room and try again"
        )
    return InstallFailed(f"{path} could not be written: {error.strerror}")


def check_space(folder: Path, needed: int) -> None:
    """Raises DiskFull before anything is fetched."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DiskFull(
            f"Not enough disk space under {folder}: {needed} bytes are needed, {free} are free",
            hint="Make room, or choose another data folder",
        )


def unpack_member(package: Path, member: str, target: Path, advance: Advance) -> str:
    """Stream one member of a zip file out to `target`; its sha256. Raises InstallFailed, DiskFull."""
    part = target.with_name(target.name + ".part")
    try:
        with zipfile.ZipFile(package) as packed, packed.open(member) as source, part.open("wb") as file:
            digest = copy(source, file, advance)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise failure(error, target) from error
    except (KeyError, zipfile.BadZipFile) as error:
        raise InstallFailed(f"{package.name} is not the package that it should be: {error}") from error
    return digest


def copy(source: IO[bytes], target: IO[bytes], advance: Advance) -> str:
    digest = hashlib.sha256()
    while block := source.read(BLOCK):
        target.write(block)
        digest.update(block)
        advance(len(block))
    return digest.hexdigest()


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def take_in(source: Path, blob: Path, *, keep_source: bool) -> None:
    """Make `source` the blob: moved, or for a user's own file linked, or copied where links cannot reach.

    Raises InstallFailed, DiskFull.
    """
    part = blob.with_name(blob.name + ".part")
    try:
        part.unlink(missing_ok=True)
        if blob.exists():
            # The same content under its own name: nothing to do, and renaming a link onto itself would leave both.
            if not keep_source:
                source.unlink()
        elif not keep_source:
            source.replace(blob)
        else:
            try:
                os.link(source.resolve(), part)
            except OSError:
                shutil.copyfile(source, part)
            part.replace(blob)
        sync_folder(blob.parent)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise failure(error, blob) from error
