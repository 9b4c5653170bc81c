"""What a runner wrote: kept, bounded, and read when it died."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import quote

BOUND = 4 * 1024 * 1024
"""Bytes after which the present file becomes the older one; there are two."""
TAIL = 8 * 1024
LONGEST_REASON = 300
LONGEST_NAME = 200
ENGINE_ERROR = re.compile(r"^[\d.]+ E +(?P<text>.*)$", re.MULTILINE)
"""A line of llama.cpp's: time, level, text."""
FATAL = re.compile(r"^fatal: (?P<text>.*)$", re.MULTILINE)
"""The last words of a worker of ours."""


@dataclass(frozen=True, slots=True)
class RunnerLog:
    """A model's log file. All methods but `name` block on the disk: call them in a thread."""

    folder: Path
    model: str

    @property
    def name(self) -> str:
        return f"{quote(self.model, safe='')[:LONGEST_NAME]}.log"

    @property
    def path(self) -> Path:
        return self.folder / self.name

    @property
    def older(self) -> Path:
        return self.path.with_suffix(".log.1")

    def open(self) -> tuple[IO[bytes], int]:
        """The file to write to, and its present length."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.path.exists() and self.path.stat().st_size > BOUND:
            self.path.replace(self.older)
        file = self.path.open("ab")
        return file, file.tell()

    def trim(self) -> None:
        """Bound a file that is being written. The writer appends, so after the cut it goes on at the start.

        Lines written between the copy and the cut are lost.
        """
        if self.path.exists() and self.path.stat().st_size > BOUND:
            shutil.copyfile(self.path, self.older)
            with self.path.open("r+b") as file:
                file.truncate(0)

    def tail(self, since: int) -> str:
        """The end of what was written after `since`."""
        with self.path.open("rb") as file:
            end = file.seek(0, 2)
            file.seek(max(end - TAIL, since if since <= end else 0))
            return file.read(TAIL).decode("utf-8", "replace")


def find_reason(tail: str) -> str:
    """The line that says best why a runner died; empty when none does."""
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    found = ENGINE_ERROR.search(tail) or FATAL.search(tail)
    text = found["text"] if found else (lines[-1] if lines else "")
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}…"
