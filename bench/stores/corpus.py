"""Linux's manual pages as a corpus: Debian's packages `manpages` and `manpages-dev`, fetched by apt, unpacked, as text.

A page's own one-line description is what is asked for, and the page without that line is what must be found.
"""

from __future__ import annotations

import gzip
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("manpages", "manpages-dev")
REQUEST = re.compile(r"^[.'].*$")
ESCAPE = re.compile(r"\\(?:f[A-Z]|f\(..|s[-+]?\d|[&|^%:])")
DASH = re.compile(r"\\-|\\\(em|\\\(en")
SECTION = re.compile(r"^\.SH\s+\"?([^\"]*)\"?", re.IGNORECASE)
MARKUP = re.compile(r"^\.(?:B|I|BR|RB|BI|IB|IR|RI|SM|TP|IP)\b\s*(.*)$")
LEAST_WORDS = 5
LONGEST = 2400
"""Characters of a page that are taken: its beginning tells what it is about."""


@dataclass(frozen=True, slots=True)
class Page:
    name: str
    question: str
    text: str


def unpacked(folder: Path) -> Path:
    """The packages' files."""
    target = folder / "manual"
    if not target.exists():
        subprocess.run(("apt-get", "download", *PACKAGES), cwd=folder, check=True, capture_output=True)
        for package in sorted(folder.glob("manpages*.deb")):
            subprocess.run(("dpkg", "-x", package.name, target.name), cwd=folder, check=True, capture_output=True)
    return target


def pages(folder: Path, most: int) -> list[Page]:
    """Every so-manieth page, spread over all sections."""
    files = sorted(path for path in unpacked(folder).rglob("*.gz") if path.is_file() and not path.is_symlink())
    read = [page for path in files if (page := read_page(path)) is not None]
    step = max(1, len(read) // most)
    return read[::step][:most]


def read_page(path: Path) -> Page | None:
    lines = gzip.decompress(path.read_bytes()).decode("utf-8", "replace").splitlines()
    sections: dict[str, list[str]] = {}
    section = ""
    for line in lines:
        if found := SECTION.match(line):
            section = found[1].strip().upper()
            continue
        if found := MARKUP.match(line):
            line = found[1].replace('"', "")  # noqa: PLW2901 - the macro's words are the line's
        elif REQUEST.match(line):
            continue
        sections.setdefault(section, []).append(DASH.sub("-", ESCAPE.sub("", line)))
    summary = " ".join(sections.pop("NAME", [])).partition(" - ")[2].strip()
    for noise in ("", "SEE ALSO", "LIBRARY", "SYNOPSIS"):
        sections.pop(noise, None)
    text = "\n\n".join(" ".join(words) for words in sections.values())[:LONGEST]
    if len(summary.split()) < LEAST_WORDS or len(text) < LEAST_WORDS * 20 or summary.lower() in text.lower():
        return None
    return Page(path.name.removesuffix(".gz"), summary, text)
