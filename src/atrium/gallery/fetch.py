"""Fetching packages with pip, which honours whatever mirrors and proxies the user has set up."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from atrium.core.errors import DiskFull, InstallFailed

PROGRESS = re.compile(rb"Progress (\d+) of (\d+)")
MOST_REASON = 8_000
SILENCE = 180.0
"""Seconds without a word from pip after which it counts as hung."""
FIRST_WAIT = 1.0
Progress = Callable[[int, int], None]
"""Bytes done, bytes in all."""


@dataclass(frozen=True, slots=True)
class PipFetch:
    attempts: int

    async def __call__(self, package: str, target: Path, progress: Progress) -> Path:
        """Download the wheel of `NAME==VERSION` into the folder `target`. Cancelling ends pip.

        Raises DiskFull, InstallFailed with pip's own words.
        """
        reason = ""
        for attempt in range(self.attempts):
            if attempt:
                await asyncio.sleep(FIRST_WAIT * 2 ** (attempt - 1))
            code, said = await run_pip(package, target, progress)
            if not code and (wheel := await asyncio.to_thread(find_wheel, target)):
                return wheel
            reason = said
            if "No space left" in reason or "Errno 28" in reason:
                raise DiskFull(f"The disk ran out of space while {package} was fetched", hint="Make room and try again")
            if "No matching distribution" in reason:
                break
        raise InstallFailed(
            f"{package} could not be fetched: {last_words(reason)}",
            hint="Check the network, pip's index settings (pip config list) and proxies, then try again",
        )


async def run_pip(package: str, target: Path, progress: Progress) -> tuple[int, str]:
    """Exit code and what pip complained about."""
    words = ("--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--resume-retries=5")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "pip", "download", *words, "--progress-bar=raw", f"--dest={target}", package),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=pip_environment(target),
    )
    if process.stdout is None:
        raise InstallFailed("pip could not be started")
    said = b""
    try:
        while True:
            async with asyncio.timeout(SILENCE):
                line = await process.stdout.readline()
            if not line:
                break
            if found := PROGRESS.search(line):
                progress(int(found[1]), int(found[2]))
            else:
                said = (said + line)[-MOST_REASON:]
        return await process.wait(), said.decode("utf-8", "replace")
    except TimeoutError:
        return 1, f"pip said nothing for {SILENCE:g} s"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def find_wheel(folder: Path) -> Path | None:
    return next(iter(sorted(folder.glob("*.whl"))), None)


def pip_environment(target: Path) -> dict[str, str]:
    """Temporary files beside the target, so that a small system disk is no obstacle."""
    return {**os.environ, "TMPDIR": str(target), "PYTHONUNBUFFERED": "1"}


def last_words(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["pip gave no reason"])[-1][:400]
