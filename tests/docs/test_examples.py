"""What the documents show is run as it stands: a page that is not true fails the build."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from atrium.gallery.model_yaml import parse_said
from atrium.settings.load import load
from tests.children import completed
from tests.running import PATIENCE, RunningServer, command, environment

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
README = (ROOT / "README.md").read_text()
HARMLESS = {"models list", "models available", "keys list", "users list"}


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def console_lines(text: str) -> list[str]:
    """Commands of the page's console blocks, continuation lines joined."""
    joined = "".join(blocks(text, "console")).replace("\\\n", " ")
    return [line[2:] for line in joined.splitlines() if line.startswith("$ ")]


@pytest.mark.parametrize("number", range(len(blocks(README, "python"))))
def test_the_readmes_python_runs_as_it_stands(server: RunningServer, tmp_path: Path, number: int) -> None:
    script = tmp_path / "example.py"
    script.write_text(blocks(README, "python")[number])
    done = subprocess.run(
        [sys.executable, str(script)],
        env=environment(tmp_path, KEY=server.key, ATRIUM_URL=server.url),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "384 numbers per text" in done.stdout


def test_the_readmes_curl_line_is_answered(server: RunningServer) -> None:
    (line,) = [line for line in console_lines(README) if line.startswith("curl")]
    line = line.replace("http://127.0.0.1:9642", server.url).replace("$KEY", server.key)
    done = subprocess.run(shlex.split(line), capture_output=True, text=True, timeout=120, check=False)
    assert '"finish_reason"' in done.stdout, done.stdout + done.stderr


def test_the_readmes_commands_exist(server: RunningServer) -> None:
    shown = [line.split("#")[0].split() for line in console_lines(README) if "bin/atrium" in line]
    assert len(shown) >= 6
    for words in shown:
        names = [w for w in words[1:3] if re.fullmatch(r"[a-z]+", w)]
        done = completed((*names, "--help"), environment(server.data_dir.parent), PATIENCE)
        assert done.returncode == 0, (names, done.stderr)
        if " ".join(names) in HARMLESS:
            assert command(server.data_dir, *names).returncode == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_configuration_shown_is_valid(page: Path, tmp_path: Path) -> None:
    for number, block in enumerate(blocks(page.read_text(), "yaml")):
        if block.startswith("# models/"):
            parse_said(block, tmp_path / "pirate.yaml")
        elif isinstance(yaml.safe_load(block), dict):
            config = tmp_path / f"{number}.yaml"
            config.write_text(block)
            load(config, tmp_path, {})


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text())
    assert not [link for link in links if not (page.parent / link).exists()]
