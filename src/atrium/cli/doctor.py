"""`atrium doctor`: what is wrong with this machine, each with its mend."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import typer

from atrium.cli.options import FAILURE, AsJson, Config, DataDir, fail, loaded, run
from atrium.cli.printing import print_json, print_table, size
from atrium.core.errors import AtriumError
from atrium.engines.memory import read_budget, read_memory
from atrium.settings.tree import Loaded
from atrium.storage.folder import DataFolder

LEAST_MEMORY = 2 * 1024**3
LEAST_DISK = 1024**3
CPU_FLAGS = ("avx2", "fma", "f16c")
"""What the engine's fast kernels use; without them it is slow, not wrong."""
ENGINE_CHECK = "import xllamacpp"
ENGINE_PATIENCE = 60


@dataclass(frozen=True, slots=True)
class Finding:
    what: str
    good: bool
    detail: str
    mend: str = ""


def doctor_command(as_json: AsJson = False, data_dir: DataDir = None, config: Config = None) -> None:
    """Check this machine and say how to mend what is wrong."""
    try:
        read = loaded(data_dir, config)
    except AtriumError as error:
        raise fail(error) from None
    findings = [check(read) for check in CHECKS]
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        rows = [("ok" if f.good else "FAILED", f.what, f.detail) for f in findings]
        print_table(("", "check", "found"), rows, "")
        for finding in findings:
            if not finding.good:
                print(f"{finding.what}: {finding.mend}")
    if not all(finding.good for finding in findings):
        raise typer.Exit(FAILURE)


def check_python(_: Loaded) -> Finding:
    good = sys.version_info >= (3, 11)
    return Finding("Python", good, platform.python_version(), "Install Python 3.11 or newer")


def check_libgomp(_: Loaded) -> Finding:
    try:
        ctypes.CDLL("libgomp.so.1")
    except OSError:
        return Finding("libgomp", False, "missing", "apt-get install libgomp1")
    return Finding("libgomp", True, "found")


def check_cpu(_: Loaded) -> Finding:
    if platform.machine() not in ("x86_64", "AMD64"):
        return Finding("processor", True, platform.machine())
    info = Path("/proc/cpuinfo")
    flags = set(info.read_text().split()) if info.exists() else set(CPU_FLAGS)
    lacking = [flag for flag in CPU_FLAGS if flag not in flags]
    detail = f"{psutil.cpu_count(logical=False) or os.cpu_count()} cores" + (
        f", lacks {', '.join(lacking)}" if lacking else ""
    )
    return Finding("processor", not lacking, detail, "Use a processor of 2013 or later; models would be very slow here")


def check_memory(read: Loaded) -> Finding:
    memory = read_memory()
    try:
        budget = read_budget(read.settings.models.memory, memory)
    except AtriumError as error:
        return Finding("memory", False, error.message, error.hint)
    mend = f"Models need {size(LEAST_MEMORY)} or more; raise models.memory or the container's limit"
    return Finding("memory", budget >= LEAST_MEMORY // 2, f"{size(budget)} of {size(memory)} for models", mend)


def check_disk(read: Loaded) -> Finding:
    folder = next(path for path in (read.data_dir, *read.data_dir.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    mend = f"Make {size(LEAST_DISK)} free, or choose another folder with --data-dir"
    return Finding("disk", free >= LEAST_DISK, f"{size(free)} free under {folder}", mend)


def check_permissions(read: Loaded) -> Finding:
    folder = DataFolder(read.data_dir)
    try:
        folder.create()
    except AtriumError as error:
        return Finding("data folder", False, error.message, error.hint)
    good = os.access(folder.path, os.R_OK | os.W_OK | os.X_OK)
    return Finding("data folder", good, str(folder.path), f"chown -R {os.getuid()} {folder.path}")


def check_port(read: Loaded) -> Finding:
    server = read.settings.server
    detail = f"{server.host}:{server.port}"
    if DataFolder(read.data_dir).control_socket.exists() and running(read):
        return Finding("port", True, f"{detail}, a server of this folder is running")
    try:
        with socket.create_server((server.host, server.port)):
            return Finding("port", True, f"{detail} is free")
    except OSError as error:
        return Finding("port", False, f"{detail}: {error.strerror}", f"atrium serve --port {server.port + 1}")


def running(read: Loaded) -> bool:
    with socket.socket(socket.AF_UNIX) as knock:
        return knock.connect_ex(str(DataFolder(read.data_dir).control_socket)) == 0


def check_database(read: Loaded) -> Finding:
    from atrium.cli.inside import environment  # noqa: PLC0415  # slow to load, and only this check needs it
    from atrium.storage.opening import open_storage  # noqa: PLC0415
    from atrium.storage.secrets import read_pepper  # noqa: PLC0415

    async def work() -> None:
        folder = DataFolder(read.data_dir)
        pepper = read_pepper(folder.secrets, environment().pepper)
        storage = await open_storage(read.settings.database.url, folder.database, pepper)
        await storage.close()

    kind = "PostgreSQL" if read.settings.database.url else "SQLite"
    if running(read):
        return Finding("database", True, f"{kind}, in use by the running server")
    try:
        run(work())
    except typer.Exit:
        return Finding("database", False, kind, "See the sentence above")
    return Finding("database", True, kind)


def check_engine(_: Loaded) -> Finding:
    command = (sys.executable, "-c", ENGINE_CHECK)
    done = subprocess.run(command, capture_output=True, text=True, timeout=ENGINE_PATIENCE, check=False)
    detail = "xllamacpp" if not done.returncode else (done.stderr.strip().splitlines() or ["crashed"])[-1]
    return Finding("engine", not done.returncode, detail, "make install, and see libgomp above")


CHECKS: tuple[Callable[[Loaded], Finding], ...] = (
    check_python,
    check_libgomp,
    check_cpu,
    check_memory,
    check_disk,
    check_permissions,
    check_port,
    check_database,
    check_engine,
)
