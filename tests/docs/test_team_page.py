"""The page for a team is walked from its first command to its last, as it stands."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from tests.docs.test_examples import blocks
from tests.running import ATRIUM, RunningServer, command, environment

PAGE = Path(__file__).parents[2] / "docs" / "team.md"


def test_the_page_for_a_team_runs_as_it_stands(server: RunningServer, tmp_path: Path) -> None:
    (tmp_path / "atrium").write_text(f'#!/bin/sh\nexec {" ".join(ATRIUM)} "$@"\n')
    (tmp_path / "atrium").chmod(0o755)
    (tmp_path / "manual.md").write_text("The filter is taken out once a week and rinsed under warm water.")
    lines = "".join(blocks(PAGE.read_text(), "console")).replace("\n$ ", "\n")[2:]
    where = {
        "ATRIUM_URL": server.url,
        "ATRIUM_DATA_DIR": str(server.data_dir),
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
    }
    try:
        done = subprocess.run(
            ["bash", "-euxo", "pipefail", "-c", lines.replace("curl -s ", "curl -sS ")],
            input="correct horse\n",
            env=environment(tmp_path, **where),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        refused = [line for line in done.stdout.splitlines() if line.startswith('{"error"')]
        assert len(refused) == 1, "registering is closed on this server, and nothing else"
        assert "Signing up is closed" in refused[0]
        assert "rinsed under warm water" in done.stdout
        assert '"citations"' in done.stdout
        assert '"full_key"' in done.stdout
        assert '"strategy":"direct"' in done.stdout
    finally:
        for quota in json.loads(command(server.data_dir, "quotas", "list", "--json").stdout):
            command(server.data_dir, "quotas", "delete", str(quota["id"]))
        for name in ("ann", "bob"):
            command(server.data_dir, "users", "delete", name)
