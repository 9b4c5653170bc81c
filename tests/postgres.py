"""A real PostgreSQL for tests: Debian's, in a folder of its own, on a socket of its own."""

from __future__ import annotations

import fcntl
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


@contextmanager
def postgres() -> Generator[str]:
    """The address of a running server with an empty database `atrium`."""
    binaries = programs()
    folder = Path(tempfile.mkdtemp(prefix="atrium-pg-"))
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
