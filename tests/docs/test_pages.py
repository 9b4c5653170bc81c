"""Pages that list what the code has: anything that is missing or stale fails."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from atrium.core.errors import AtriumError
from atrium.http.reading import ClientGone
from atrium.relay.upstream_error import RelayedError
from atrium.settings.describe import describe
from atrium.settings.tree import Settings
from atrium.telemetry.events import NAMES
from atrium.telemetry.metrics import Metrics

DOCS = Path(__file__).parents[2] / "docs"
EDGE_ERRORS = (RelayedError, ClientGone)
"""Imported so that they count as leaves of the tree."""


def leaves(kind: type[AtriumError]) -> Iterator[type[AtriumError]]:
    for child in kind.__subclasses__():
        yield child
        yield from leaves(child)


def test_the_configuration_page_is_the_settings_tree() -> None:
    assert (DOCS / "configuration.md").read_text() == describe(Settings), "make it anew: atrium config docs"


def test_every_error_code_is_documented_with_its_status() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (\d+|exit 1) \|", (DOCS / "errors.md").read_text(), flags=re.MULTILINE))
    own = {
        kind for kind in leaves(AtriumError) if kind.__module__.startswith("atrium.") and ".cli." not in kind.__module__
    }
    for kind in own:
        assert kind.code in rows, f"{kind.__name__} has the code {kind.code}, which docs/errors.md lacks"
        assert rows[kind.code] in (str(kind.status), "exit 1")
    assert set(rows) == {kind.code for kind in own}


def test_every_event_is_documented_and_nothing_else() -> None:
    events = set(re.findall(r"^\| `(\w+\.\w+)` \|", (DOCS / "events.md").read_text(), flags=re.MULTILINE))
    assert events == NAMES


def test_every_event_that_the_code_tells_is_in_the_list() -> None:
    source = "\n".join(path.read_text() for path in (DOCS.parent / "src").rglob("*.py"))
    assert set(re.findall(r"tell\(\s*\"([\w.]+)\"", source)) <= NAMES


def test_every_metric_is_documented() -> None:
    page = (DOCS / "events.md").read_text()
    rendered = Metrics(lambda: ()).render().decode()
    for name in re.findall(r"^# HELP (\w+)", rendered, flags=re.MULTILINE):
        if not name.endswith("_created"):
            assert f"`{name}`" in page, name


def test_the_command_page_is_the_program() -> None:
    made = subprocess.run(
        [sys.executable, str(DOCS.parent / "scripts" / "command_page.py")], capture_output=True, text=True, check=True
    )
    assert (DOCS / "cli.md").read_text() == made.stdout, "make it anew: python scripts/command_page.py > docs/cli.md"
