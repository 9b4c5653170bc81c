"""Running the gallery's child programs: bounded in time, ended when the installation is."""

from __future__ import annotations

import asyncio
import sys

from atrium.core.errors import InstallFailed

PATIENCE = 600.0
MOST_OUTPUT = 64 * 1024 * 1024


async def run_worker(module: str, *words: str) -> bytes:
    """stdout of `python -m atrium.gallery.workers.MODULE WORDS…`. Raises InstallFailed with its last words."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"atrium.gallery.workers.{module}", *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=MOST_OUTPUT,
    )
    try:
        async with asyncio.timeout(PATIENCE):
            out, err = await process.communicate()
    except TimeoutError:
        raise InstallFailed(f"{module} took longer than {PATIENCE:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        reason = err.decode("utf-8", "replace").strip().splitlines()[-1:] or [f"it ended with {process.returncode}"]
        raise InstallFailed(f"The model file cannot be used: {reason[0][:500]}")
    return out
