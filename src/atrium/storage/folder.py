"""The data folder: its rooms, its lock, and files that are never half written."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import socket
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from atrium.core.errors import ConfigError, FolderInUse

ROOMS = ("stores", "models", "files", "tmp", "logs", "secrets")
LONGEST_SOCKET = 100
"""Bytes of a socket's path: the kernel takes 107, and names of eight characters and a suffix come on top."""
CONTROL_SOCKET = "atrium.sock"


@dataclass(frozen=True, slots=True)
class DataFolder:
    path: Path

    @property
    def database(self) -> Path:
        return self.path / "atrium.db"

    @property
    def models(self) -> Path:
        return self.path / "models"

    @property
    def stores(self) -> Path:
        return self.path / "stores"

    @property
    def files(self) -> Path:
        return self.path / "files"

    @property
    def tmp(self) -> Path:
        return self.path / "tmp"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def seen(self) -> Path:
        """What models were seen to take of memory; may be deleted at any time."""
        return self.path / "memory.json"

    @property
    def secrets(self) -> Path:
        return self.path / "secrets"

    @property
    def run(self) -> Path:
        """Where sockets lie: within the folder, or where its path is too long for one, in the temporary folder."""
        inside = self.path / "run"
        if len(os.fsencode(inside / CONTROL_SOCKET)) <= LONGEST_SOCKET:
            return inside
        name = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"atrium-{os.getuid()}-{name}"

    @property
    def mark(self) -> str:
        """Tells this folder from those of other gateways on the same database."""
        return hashlib.sha256(f"{socket.gethostname()}:{self.path}".encode()).hexdigest()[:32]

    @property
    def control_socket(self) -> Path:
        return self.run / CONTROL_SOCKET

    def create(self) -> None:
        """Make what is missing. Raises ConfigError when the folder cannot be used."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in ROOMS:
                (self.path / name).mkdir(mode=0o700, exist_ok=True)
            self.run.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"The data folder {self.path} cannot be used: {error.strerror}",
                hint="Give another one with --data-dir, or mend its permissions",
            ) from None
        owner = self.run.stat().st_uid
        if owner != os.getuid():
            raise ConfigError(f"{self.run} belongs to another user ({owner})", hint="Remove it, or use another folder")
        self.run.chmod(0o700)

    @contextmanager
    def locked(self) -> Generator[None]:
        """Be the one that changes the folder. Raises FolderInUse. The lock ends with the process, however it ends."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise FolderInUse(
                    f"Another Atrium works on the data folder {self.path}",
                    hint="Stop it, or give this one a folder of its own with --data-dir",
                ) from None
            yield
        finally:
            os.close(descriptor)

    def clear_tmp(self, keep: str = "install-") -> None:
        """Remove what an earlier process left behind, but for downloads that can go on."""
        for entry in self.tmp.iterdir():
            if entry.name.startswith(keep):
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)


def write_file(path: Path, data: bytes, mode: int) -> None:
    """Whole or not at all: under a temporary name first, synced, then renamed."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
