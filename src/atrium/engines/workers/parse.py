"""`python -m atrium.engines.workers.parse`: reads documents, each in a process of its own that may not take much.

The program itself never touches a file. It imports the parser once and forks a child per document, which costs a few
milliseconds where a fresh process would cost the better part of a second. It reads one JSON object a line:

    {"number": 7, "path": "…", "filename": "a.pdf", "result": "…", "memory": bytes, "seconds": s, "most_text": n}
    {"cancel": 7}

and answers each document with a line `{"number": 7, "how": "done" | "refused" | "killed" | "late", "signal": n}`; the
child has written what it found, or why it refused, into the file `result` as JSON. Standard input's end is the parent's
end, and the program's.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import resource
import select
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import xberg

from atrium.decisions.tell_format import LOOKED_AT, Format, tell_format
from atrium.engines.workers.parent import PR_SET_PDEATHSIG

DONE, REFUSED = 0, 3
HEADROOM = 400 * 1024 * 1024
"""Bytes of address space that the program itself and its threads' stacks take before a document is looked at."""
OPEN_FILES = 64
ENCODINGS = ("utf-8-sig", "cp1252", "latin-1")
MARKDOWN = frozenset({Format.DOCX, Format.XLSX, Format.PPTX, Format.ODT, Format.ODS, Format.ODP, Format.EPUB})
PAGED = frozenset({Format.PDF, Format.PPTX, Format.ODP})
BETWEEN_PAGES = "\n\n"


class Refused(Exception):
    """The document cannot be read, and why."""


@dataclass(slots=True)
class Running:
    number: int
    deadline: float
    late: bool = False


# In the child.


def read_document(job: dict[str, Any]) -> dict[str, Any]:
    """Raises Refused."""
    path, filename = Path(job["path"]), str(job["filename"])
    data = path.read_bytes()
    kind = tell_format(data[:LOOKED_AT], filename)
    if kind is None:
        raise Refused("it is of no kind that text can be read from")
    if kind is Format.TEXT:
        found: dict[str, Any] = {"text": decoded(data), "pages": [], "title": ""}
    else:
        found = parsed(data, kind, filename, int(job["most_text"]))
    # No kind of text has it, and not every database keeps it.
    for name in ("text", "title"):
        found[name] = str(found[name]).replace("\0", "")
    if not found["text"].strip():
        raise Refused(
            "it holds no text; a scanned document needs a text layer"
            if kind in PAGED
            else "it is empty"
            if not data
            else "it holds no text"
        )
    if len(found["text"]) > job["most_text"]:
        raise Refused(f"its text has more than {job['most_text']} characters")
    return found


def decoded(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    for encoding in ENCODINGS:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    return data.decode("utf-8", "replace")


def parsed(data: bytes, kind: Format, filename: str, most_text: int) -> dict[str, Any]:
    """Raises Refused."""
    limits = xberg.SecurityLimits(max_content_size=most_text * 4)
    config = xberg.ExtractionConfig(
        use_cache=False,
        disable_ocr=True,
        enable_quality_processing=False,
        output_format="markdown" if kind in MARKDOWN else "plain",
        escape_markdown=False,
        pages=xberg.PageConfig(extract_pages=True) if kind in PAGED else None,
        security_limits=limits,
        concurrency=xberg.ConcurrencyConfig(max_threads=1),
        max_archive_depth=0,
    )
    given = xberg.ExtractInput(kind="bytes", bytes=data, mime_type=kind.value, filename=filename)
    try:
        result = asyncio.run(xberg.extract(given, config))
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - a file that lies may fail in any way
        raise Refused(reason_of(str(error))) from None
    if not result.results:
        raise Refused("nothing could be read from it")
    document = result.results[0]
    title = getattr(document.metadata, "title", None) or ""
    pages = document.pages or []
    if not pages or kind not in PAGED:
        return {"text": document.content, "pages": [], "title": title}
    return {**joined([(page.page_number, page.content) for page in pages]), "title": title}


def joined(pages: list[tuple[int, str]]) -> dict[str, Any]:
    """The text of all pages, and where each of them stands in it."""
    pieces: list[str] = []
    places: list[tuple[int, int, int]] = []
    at = 0
    for number, content in pages:
        text = content.replace("\0", "")
        if not text.strip():
            continue
        if pieces:
            pieces.append(BETWEEN_PAGES)
            at += len(BETWEEN_PAGES)
        places.append((number, at, at + len(text)))
        pieces.append(text)
        at += len(text)
    return {"text": "".join(pieces), "pages": places}


def reason_of(message: str) -> str:
    """The parser's words, shortened to what helps the person who has the file."""
    low = message.lower()
    if "password" in low or "encrypt" in low:
        return "it is encrypted; take its password off first"
    if "security limit" in low or "exceeds limit" in low or "bomb" in low:
        return "what is packed in it is larger than may be unpacked"
    return f"it is damaged or not what its name says ({message.splitlines()[0][:200]})"


def child(job: dict[str, Any]) -> int:
    """Everything that a document may do happens in here."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    memory = int(job["memory"]) + HEADROOM
    seconds = int(job["seconds"]) + 1
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    room = int(job["most_text"]) * 6 + 1024 * 1024
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    result = Path(job["result"])
    try:
        result.write_bytes(orjson.dumps(read_document(job)))
    except Refused as why:
        result.write_bytes(orjson.dumps({"reason": str(why)}))
        return REFUSED
    except MemoryError:
        result.write_bytes(orjson.dumps({"reason": "reading it takes more memory than a document may"}))
        return REFUSED
    return DONE


# In the program.


def nothing(_: int, __: object) -> None:
    """A signal that is only to wake the loop."""


class Foreman:
    """Starts children, ends those that are late or not wanted any more, tells how each ended."""

    def __init__(self) -> None:
        self._running: dict[int, Running] = {}
        """By process id."""
        self._waiting = b""

    def run(self) -> None:
        wake, poke = os.pipe()
        os.set_blocking(poke, False)
        signal.set_wakeup_fd(poke, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, nothing)
        while True:
            ready, _, _ = select.select([0, wake], [], [], self._patience())
            if wake in ready:
                os.read(wake, 4096)
            if 0 in ready and not self._take(os.read(0, 65_536)):
                return
            self._end_late()
            self._collect()

    def _patience(self) -> float | None:
        now = time.monotonic()
        waits = [one.deadline - now for one in self._running.values() if not one.late]
        return max(0.0, min(waits)) if waits else None

    def _take(self, data: bytes) -> bool:
        """False at the end of input: every child ends with the program."""
        if not data:
            for pid in self._running:
                os.kill(pid, signal.SIGKILL)
            return False
        *lines, self._waiting = (self._waiting + data).split(b"\n")
        for line in lines:
            job = orjson.loads(line)
            if "cancel" in job:
                self._cancel(job["cancel"])
            else:
                self._start(job)
        return True

    def _start(self, job: dict[str, Any]) -> None:
        parent = os.getpid()
        pid = os.fork()
        if pid:
            self._running[pid] = Running(job["number"], time.monotonic() + job["seconds"])
            return
        code = 1
        try:
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            signal.set_wakeup_fd(-1)
            if os.getppid() == parent:
                os.dup2(os.open(os.devnull, os.O_RDWR), 0)
                os.dup2(0, 1)
                code = child(job)
        finally:
            os._exit(code)

    def _cancel(self, number: int) -> None:
        for pid, one in self._running.items():
            if one.number == number:
                os.kill(pid, signal.SIGKILL)

    def _end_late(self) -> None:
        now = time.monotonic()
        for pid, one in self._running.items():
            if not one.late and one.deadline <= now:
                one.late = True
                os.kill(pid, signal.SIGKILL)

    def _collect(self) -> None:
        while self._running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            one = self._running.pop(pid)
            code = os.waitstatus_to_exitcode(status)
            how = {DONE: "done", REFUSED: "refused"}.get(code, "killed")
            if one.late or code == -signal.SIGXCPU:
                how = "late"
            os.write(1, orjson.dumps({"number": one.number, "how": how, "code": code}) + b"\n")


def main() -> int:
    gc.freeze()
    os.nice(5)
    Foreman().run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
