"""The gateway's side of reading documents. Implements `core.document_ports.Parser`.

One program forks a child for each document (`workers/parse.py`), so that a hostile file costs one child and nothing
else. It is started when the first document comes, and anew should it ever end.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from atrium.core.documents import Page, Parsed
from atrium.core.errors import UnreadableDocument

PROGRAM = ("-m", "atrium.engines.workers.parse")
SLACK = 30.0
"""Seconds beyond a document's own time after which the program itself counts as hung."""
TRIES = 2


@dataclass(frozen=True, slots=True)
class ParseBounds:
    memory: int
    """Bytes that reading one document may take."""
    seconds: float
    parallel: int
    most_text: int
    """Characters."""


class ProgramGone(Exception):
    """Within this file: the program ended before it answered."""


@dataclass(slots=True)
class Program:
    process: asyncio.subprocess.Process
    reading: asyncio.Task[None]
    answers: dict[int, asyncio.Future[dict[str, Any]]] = field(default_factory=dict[int, Any])


class DocumentParser:
    def __init__(self, bounds: ParseBounds, scratch: Path, environment: Mapping[str, str]) -> None:
        self._bounds = bounds
        self._scratch = scratch
        self._environment = dict(environment)
        self._turns = asyncio.Semaphore(bounds.parallel)
        self._starting = asyncio.Lock()
        self._program: Program | None = None
        self._numbers = itertools.count(1)

    async def close(self) -> None:
        if self._program is not None:
            await self._end(self._program)

    async def parse(self, path: Path, filename: str) -> Parsed:
        async with self._turns:
            for _ in range(TRIES):
                with contextlib.suppress(ProgramGone):
                    return await self._parse(path, filename)
        raise UnreadableDocument(f"'{filename}' could not be read: the parser broke down twice", param="file")

    async def _parse(self, path: Path, filename: str) -> Parsed:
        program = await self._running()
        number = next(self._numbers)
        result = self._scratch / f"parsed-{os.getpid()}-{number}"
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        program.answers[number] = answer
        bounds = self._bounds
        job = {
            "number": number,
            "path": str(path),
            "filename": filename,
            "result": str(result),
            "memory": bounds.memory,
            "seconds": bounds.seconds,
            "most_text": bounds.most_text,
        }
        try:
            self._tell(program, job)
            async with asyncio.timeout(bounds.seconds + SLACK):
                told = await answer
            return await asyncio.to_thread(outcome, told, result, filename, bounds)
        except TimeoutError:
            await self._end(program)
            raise ProgramGone from None
        finally:
            program.answers.pop(number, None)
            if not answer.done() or answer.cancelled():
                self._tell(program, {"cancel": number})
            await asyncio.to_thread(result.unlink, missing_ok=True)

    def _tell(self, program: Program, line: dict[str, Any]) -> None:
        pipe = program.process.stdin
        if pipe is not None and not pipe.is_closing():
            pipe.write(orjson.dumps(line) + b"\n")

    async def _running(self) -> Program:
        async with self._starting:
            program = self._program
            if program is None or program.reading.done():
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, *PROGRAM),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    # What the parser's libraries have to say of a broken file is noise.
                    stderr=asyncio.subprocess.DEVNULL,
                    start_new_session=True,
                    env=self._environment,
                    cwd=tempfile.gettempdir(),
                )
                answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
                reading = asyncio.create_task(self._read(process, answers))
                program = self._program = Program(process, reading, answers)
            return program

    async def _read(
        self, process: asyncio.subprocess.Process, answers: dict[int, asyncio.Future[dict[str, Any]]]
    ) -> None:
        """Hand every answer to who waits for it; at the program's end all who wait are told."""
        try:
            while process.stdout is not None and (line := await process.stdout.readline()):
                told = orjson.loads(line)
                waiting = answers.get(told["number"])
                if waiting is not None and not waiting.done():
                    waiting.set_result(told)
        finally:
            for waiting in answers.values():
                if not waiting.done():
                    waiting.set_exception(ProgramGone())
            await process.wait()

    async def _end(self, program: Program) -> None:
        if program.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                program.process.kill()
        await asyncio.gather(program.reading, return_exceptions=True)


def outcome(told: Mapping[str, Any], result: Path, filename: str, bounds: ParseBounds) -> Parsed:
    """Raises UnreadableDocument."""
    how = told["how"]
    if how == "done":
        found = orjson.loads(result.read_bytes())
        return Parsed(found["text"], tuple(Page(*page) for page in found["pages"]), found["title"])
    if how == "refused":
        reason = orjson.loads(result.read_bytes())["reason"]
    elif how == "late":
        reason = f"reading it takes longer than {bounds.seconds:g} s"
    else:
        reason = "reading it takes more memory than a document may, or it breaks the parser"
    raise UnreadableDocument(f"'{filename}' cannot be read: {reason}", param="file")
