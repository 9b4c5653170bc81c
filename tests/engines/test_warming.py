"""A model is warmed up as it is loaded: the engine's own log says so, once it is made to tell more than it does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from atrium.engines.placement.local import child_environment
from tests.weights import smollm2_card

TALKATIVE = 4
PROGRAM = f"""
from atrium.engines.workers import llamacpp

ordinary = llamacpp.parameters

def talkative(told):
    wanted = ordinary(told)
    wanted.verbosity = {TALKATIVE}
    return wanted

llamacpp.parameters = talkative
llamacpp.main()
"""
LOADED = "model loaded"


def test_a_model_makes_an_empty_run_before_it_counts_as_loaded(tmp_path: Path) -> None:
    told = {"slots": 1, "context": 512, "batch": 64, "threads": 1, "prompt-cache": 0, "parent": os.getpid()}
    options = [f"--{name}={value}" for name, value in told.items()]
    command = [sys.executable, "-c", PROGRAM, "--model", smollm2_card().path, *options]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [*command, "--socket", str(tmp_path / "model.sock")],
        stdin=pipe,
        stdout=pipe,
        stderr=subprocess.STDOUT,
        text=True,
        env=child_environment(os.environ),
    ) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        lines: list[str] = []
        for line in worker.stdout:
            lines.append(line)
            if LOADED in line:
                break
        worker.stdin.close()
        worker.stdout.read()
    assert LOADED in lines[-1], lines
    assert any("warming up the model with an empty run" in line for line in lines), lines
