"""Every row of an API page names a test that exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "api").glob("*.md"))
FOLDERS = {
    "lollms": ("lollms", "everywhere"),
    "olla": ("gateway", "relay", "settings", "decisions", "people"),
    "people": ("people",),
}
"""Where all tests of a page stand in a few folders; otherwise a file is known by its name alone."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_row_names_a_test_that_exists(page: Path) -> None:
    named = re.findall(r"`(\w+)::(test_\w+)`", page.read_text())
    assert named
    for file, test in named:
        folders = FOLDERS.get(page.stem, ("*",))
        sources = [source for one in folders for source in (ROOT / "tests").glob(f"{one}/test_{file}.py")]
        assert any(f"def {test}(" in source.read_text() for source in sources), f"{page.name}: {file}::{test}"


def test_every_row_of_a_table_with_tests_names_one() -> None:
    without: list[str] = []
    for page in PAGES:
        head, tested = "", False
        for line in page.read_text().splitlines():
            if re.fullmatch(r"\|[-| :]+\|", line):
                tested = head.lower().rstrip("| ").endswith("| test")
            elif tested and head.startswith("|") and line.startswith("|") and not re.search(r"`\w+::test_\w+`", line):
                without.append(f"{page.name}: {line}")
            head = line
    assert not without


def test_the_page_of_openais_fields_is_made_from_their_tables() -> None:
    made = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "openai_page.py")], capture_output=True, text=True, check=True
    )
    page = ROOT / "docs" / "api" / "openai.md"
    assert page.read_text() == made.stdout, "make it anew: python scripts/openai_page.py > docs/api/openai.md"
