"""A PDF of a thousand pages: time and the most memory that its child ever had."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

from reportlab.pdfgen.canvas import Canvas

from atrium.engines.parsing import DocumentParser, ParseBounds

PAGES, LINES = 1000, 45
KIB = 1024
MIB = 1024 * 1024


async def pdf_rows(folder: Path) -> list[tuple[str, str, str]]:
    path = folder / "thousand.pdf"
    canvas = Canvas(str(path))
    for page in range(PAGES):
        for line in range(LINES):
            words = f"Page {page + 1}, line {line}: the quick brown fox jumps over {page * LINES + line} lazy dogs"
            canvas.drawString(50, 800 - line * 17, words)
        canvas.showPage()
    canvas.save()
    parser = DocumentParser(ParseBounds(1024 * MIB, 300, 1, 64 * MIB), folder, os.environ)
    start = time.perf_counter()
    parsed = await parser.parse(path, path.name)
    took = time.perf_counter() - start
    await parser.close()
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * KIB / MIB
    return [
        ("pages read", f"{len(parsed.pages)}", f"{PAGES}"),
        ("time", f"{took:.1f} s", ""),
        ("most memory of the reading child", f"{most:.0f} MiB", "≤ 1024 MiB"),
    ]
