"""The page about models names every key of their files."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from atrium.settings.model_yaml import ModelYaml, Parameters

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text()


def test_every_key_of_a_models_file_is_documented_and_nothing_else() -> None:
    keys = {key for row in re.findall(r"^\| (`[^|]+) \|", PAGE, re.MULTILINE) for key in re.findall(r"`(\w+)`", row)}
    assert keys == {field.name for field in fields(ModelYaml)}
    (parameters,) = re.findall(r"^\| `parameters` \| [^:]+: (.+) \|$", PAGE, re.MULTILINE)
    assert re.findall(r"`(\w+)`", parameters) == [field.name for field in fields(Parameters)]
