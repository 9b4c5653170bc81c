"""Logs of runners: bounded, kept, and read for the reason of a death."""

from __future__ import annotations

from pathlib import Path

import pytest

from atrium.engines.logs import BOUND, RunnerLog, find_reason

LLAMACPP = """0.00.003.579 I srv          init: loading model
0.00.021.262 E llama_model_load: error loading model: tensor 'a' is not within the file bounds
0.00.021.298 E llama_model_load_from_file_impl: failed to load model
Traceback (most recent call last):
RuntimeError: Failed to init server
fatal: Failed to init server
"""


@pytest.mark.parametrize(
    ("tail", "reason"),
    [
        (LLAMACPP, "llama_model_load: error loading model: tensor 'a' is not within the file bounds"),
        ("some words\nfatal: told to\n", "told to"),
        ("Traceback (most recent call last):\n  File\nImportError: libgomp.so.1\n\n", "ImportError: libgomp.so.1"),
        ("", ""),
        (f"fatal: {'x' * 1000}", f"{'x' * 300}…"),
    ],
)
def test_the_line_that_says_why_is_found(tail: str, reason: str) -> None:
    assert find_reason(tail) == reason


def test_a_log_is_kept_from_life_to_life(tmp_path: Path) -> None:
    log = RunnerLog(tmp_path / "logs", "team/model:7b")
    for line in (b"first\n", b"second\n"):
        file, since = log.open()
        with file:
            file.write(line)
    assert log.path.read_bytes() == b"first\nsecond\n"
    assert log.path.parent == tmp_path / "logs"
    assert log.tail(since) == "second\n"


def test_a_log_that_grows_while_it_is_written_is_cut_and_goes_on(tmp_path: Path) -> None:
    log = RunnerLog(tmp_path, "model")
    file, since = log.open()
    with file:
        file.write(b"x" * (BOUND + 1))
        file.flush()
        log.trim()
        file.write(b"after\n")
    assert log.path.read_bytes() == b"after\n"
    assert log.older.stat().st_size == BOUND + 1
    assert log.tail(since + BOUND) == "after\n"


def test_a_large_log_starts_afresh_with_the_next_life(tmp_path: Path) -> None:
    log = RunnerLog(tmp_path, "model")
    log.path.write_bytes(b"x" * (BOUND + 1))
    file, since = log.open()
    file.close()
    assert since == 0
    assert log.older.stat().st_size == BOUND + 1
