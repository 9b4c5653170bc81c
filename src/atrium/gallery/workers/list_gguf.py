"""`python -m atrium.gallery.workers.list_gguf FILE`: the lists that a GGUF file has by name, as JSON on stdout."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import msgspec
from gguf import GGUFReader

ROOM = 4 * 1024**3
"""Bytes of address space besides the file itself."""
CPU_SECONDS = 60


def main() -> None:
    path = Path(sys.argv[1])
    room = ROOM + path.stat().st_size
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    found: dict[str, object] = {}
    for name, field in GGUFReader(path).fields.items():
        value = field.contents()
        if isinstance(value, list):
            found[name] = value
    sys.stdout.buffer.write(msgspec.json.encode(found))


if __name__ == "__main__":
    main()
