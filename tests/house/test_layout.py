"""The house checks itself: names, sizes, and what may not stand in it."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src" / "atrium").rglob("*.py"))
CODE = sorted(p for room in ("src", "tests", "bench", "scripts") for p in (ROOT / room).rglob("*.py"))
VAGUE = re.compile(r"^(utils?|helpers?|managers?|common|misc|base|handlers?)$|(_|^)(utils?|helpers?|manager|misc)(_|$)")
MOST_LINES_OF_A_FILE = 400
MOST_LINES_OF_A_FUNCTION = 50
Function = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@dataclass(frozen=True)
class Outline:
    docstring: str | None
    classes: list[str]
    functions: dict[str, int]
    """What each is called, with its line, and how many lines it has."""


@cache
def outline(path: Path) -> Outline:
    """Of a source file, which is parsed once for all tests."""
    tree = ast.parse(path.read_text())
    nodes = list(ast.walk(tree))
    return Outline(
        docstring=ast.get_docstring(tree),
        classes=[node.name for node in nodes if isinstance(node, ast.ClassDef)],
        functions={
            f"{node.name} in line {node.lineno}": (node.end_lineno or node.lineno) - node.lineno + 1
            for node in nodes
            if isinstance(node, Function)
        },
    )


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_a_file_fits_in_the_head(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= MOST_LINES_OF_A_FILE, f"{lines} lines: cut it by subject"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_function_fits_on_a_screen(path: Path) -> None:
    long = {name: lines for name, lines in outline(path).functions.items() if lines > MOST_LINES_OF_A_FUNCTION}
    assert not long


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_names_come_from_the_domain(path: Path) -> None:
    parts = [*path.relative_to(ROOT / "src").with_suffix("").parts]
    parts += [name.lower() for name in outline(path).classes]
    vague = [part for part in parts if VAGUE.search(part)]
    assert not vague, f"vague names: {vague}"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_nothing_unfinished_is_left_behind(path: Path) -> None:
    marks = re.findall(r"NotImplementedError|\b(?:TODO|FIXME|XXX|HACK)\b|for now\b", path.read_text())
    assert not marks


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_every_module_says_what_it_is(path: Path) -> None:
    assert outline(path).docstring, "a module opens with a sentence"


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("test_*.py")), ids=name_of)
def test_no_test_sleeps_for_a_while(path: Path) -> None:
    naps = re.findall(r"\b(?:time|asyncio|anyio)\.sleep\((?!0\))", path.read_text())
    assert not naps, "await an event instead"


def test_lock_files_name_no_index() -> None:
    for lock in (ROOT / "requirements").glob("*.txt"):
        assert not re.search(r"https?://|--index-url|--find-links", lock.read_text()), lock.name


def test_no_large_file_is_committed() -> None:
    large = [name_of(p) for p in CODE if p.stat().st_size > 500_000]
    assert not large
