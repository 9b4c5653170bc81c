"""Every row of an API page names a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "api").glob("*.md"))
FOLDERS = {"lollms": "lollms", "olla": "gateway", "people": "people"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_row_names_a_test_that_exists(page: Path) -> None:
    named = re.findall(r"`(\w+)::(test_\w+)`", page.read_text())
    assert named
    for file, test in named:
        source = ROOT / "tests" / FOLDERS[page.stem] / f"test_{file}.py"
        assert f"def {test}(" in source.read_text(), f"{page.name}: {file}::{test}"
