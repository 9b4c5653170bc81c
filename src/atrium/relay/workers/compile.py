"""`python -m atrium.relay.workers.compile`: compiles shapes that may explode, one after the other.

Each question and each answer is a length in four bytes, the most significant first, and so many bytes; the first
answer, an empty one, says that the program is ready. A shape that takes too much memory takes the program with it.
Standard input's end is the parent's end, and the program's, also while it works.
"""

from __future__ import annotations

import os
import pickle
import queue
import resource
import sys
import threading
from pathlib import Path

import msgspec

from atrium.core.errors import InvalidSchema, Unsupported
from atrium.core.requests import JsonSchema, ToolMode, ToolUse
from atrium.dialects.llamacpp.grammar import Frame
from atrium.relay.compiling import HEAD, Compiled
from atrium.relay.shape_of import Wanted, shape_of

ROOM = 512 * 1024 * 1024
"""Bytes of address space beyond what the program itself takes."""
WARM = Wanted(JsonSchema({"type": "string", "pattern": "a"}), ToolUse(mode=ToolMode.NONE), Frame(1024))
"""Libraries make up their minds at the first shape."""


def compiled(raw: bytes) -> Compiled:
    try:
        # Whoever writes to this pipe started this program.
        shape = shape_of(pickle.loads(raw))  # noqa: S301
    except (InvalidSchema, Unsupported) as refused:
        told = Compiled(error=refused.message, hint=refused.hint or "", param=refused.param or "")
        told.unsupported = isinstance(refused, Unsupported)
        return told
    return Compiled(shape.grammar, shape.dropped)


def say(raw: bytes) -> None:
    sys.stdout.buffer.write(HEAD.pack(len(raw)) + raw)
    sys.stdout.buffer.flush()


def listen(asked: queue.SimpleQueue[bytes]) -> None:
    source = sys.stdin.buffer
    while len(head := source.read(HEAD.size)) == HEAD.size:
        asked.put(source.read(HEAD.unpack(head)[0]))
    os._exit(0)


def main() -> None:
    asked: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=listen, args=(asked,), daemon=True).start()
    shape_of(WARM)
    taken = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM, taken + ROOM))
    say(b"")
    while True:
        say(msgspec.msgpack.encode(compiled(asked.get())))


if __name__ == "__main__":
    main()
