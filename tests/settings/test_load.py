"""Settings: from a file and the environment to one frozen tree, or a sentence that names the place."""

from __future__ import annotations

from pathlib import Path

import pytest
from jsonschema import ValidationError, validate

from atrium.core.errors import ConfigError
from atrium.settings.describe import json_schema, plain
from atrium.settings.load import find_data_dir, load
from atrium.settings.tree import Settings
from atrium.settings.units import read_duration, read_size


def loaded(tmp_path: Path, text: str, **environ: str) -> Settings:
    path = tmp_path / "atrium.yaml"
    path.write_text(text)
    return load(path, tmp_path, environ).settings


def test_nothing_given_means_the_defaults(tmp_path: Path) -> None:
    assert load(None, tmp_path, {}).settings == Settings()
    assert loaded(tmp_path, "") == Settings()


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    read = loaded(
        tmp_path, "server: {port: 1, host: '::1'}", ATRIUM_SERVER__PORT="2", ATRIUM_DATABASE_URL="postgresql://x"
    )
    assert (read.server.port, read.server.host) == (2, "::1")
    assert read.database.url == "postgresql://x"


def test_what_clients_and_commands_read_from_the_environment_is_no_mistake(tmp_path: Path) -> None:
    others = {"ATRIUM_URL": "http://127.0.0.1:9642", "ATRIUM_ENDPOINT_KEY": "k", "ATRIUM_PEPPER": "p"}
    assert load(None, tmp_path, others).settings == Settings()


def test_lists_and_units_are_read_from_both(tmp_path: Path) -> None:
    read = loaded(
        tmp_path,
        "models: {keep_alive: 90s, preload: [a, b]}\nmodel_aliases: {x: y, z: [p, q]}",
        ATRIUM_LIMITS__MAX_BODY="2MB",
        ATRIUM_CORS__ORIGINS="https://a, https://b",
        ATRIUM_TELEMETRY__LOG="text",
        ATRIUM_AUTH__REQUIRED="false",
    )
    assert read.models.keep_alive == 90
    assert read.models.preload == ("a", "b")
    assert read.model_aliases == {"x": ("y",), "z": ("p", "q")}
    assert read.limits.max_body == 2 * 1024 * 1024
    assert read.cors.origins == ("https://a", "https://b")
    assert read.telemetry.log == "text"
    assert not read.auth.required


def test_a_variable_is_put_in(tmp_path: Path) -> None:
    assert loaded(tmp_path, "database: {url: 'postgresql://${USER_NAME}@h/d'}", USER_NAME="u").database.url == (
        "postgresql://u@h/d"
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("serverr: {}", "atrium.yaml:1: unknown key 'serverr'"),
        ("server:\n  prot: 3", "atrium.yaml:2: unknown key 'server.prot'"),
        ("server: {port: x}", "'server.port' must be a whole number"),
        ("server: {port: true}", "'server.port' must be a whole number"),
        ("server: {port: -1}", "at least 0"),
        ("server: 7", "'server' must be a mapping"),
        ("server: {tls: {cert: a}}", "'server.tls.key' is missing"),
        ("auth: {required: 'no'}", "must be true or false"),
        ("limits: {max_body: 5XB}", "a size such as"),
        ("models: {keep_alive: soon}", "a duration such as"),
        ("telemetry: {log: xml}", "json or text"),
        ("a: 1\na: 2", "'a' is given twice"),
        ("x: &a [1]\ny: *a", "aliases are not supported"),
        ("database: {url: '${NOPE}'}", "NOPE"),
        ("[1, 2", "not valid YAML"),
        ("server: {host: 2026-01-01}", "in quotes"),
        ("a: " + "[" * 500, "YAML"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        loaded(tmp_path, text)
    assert says in refused.value.sentence
    assert "atrium.yaml" in refused.value.sentence


def test_a_misspelt_variable_and_a_misspelt_key_get_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ATRIUM_SERVER__PROT") as variable:
        load(None, tmp_path, {"ATRIUM_SERVER__PROT": "1"})
    assert "ATRIUM_SERVER__PORT" in variable.value.hint
    with pytest.raises(ConfigError) as key:
        loaded(tmp_path, "modles: {}")
    assert "'models'" in key.value.hint


def test_a_named_file_must_be_there_and_be_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml cannot be read"):
        load(tmp_path / "nowhere.yaml", tmp_path, {})
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        load(tmp_path / "bytes.yaml", tmp_path, {})


def test_the_data_folder_is_the_first_that_was_named() -> None:
    environ = {"ATRIUM_DATA_DIR": "/a", "XDG_DATA_HOME": "/b", "HOME": "/c"}
    assert find_data_dir(Path("/given"), environ) == Path("/given")
    assert find_data_dir(None, environ) == Path("/a")
    assert find_data_dir(None, {"XDG_DATA_HOME": "/b", "HOME": "/c"}) == Path("/b/atrium")
    assert find_data_dir(None, {"HOME": "/c"}) == Path("/c/.local/share/atrium")


@pytest.mark.parametrize(
    ("text", "seconds"), [("never", -1), ("Never", -1), ("-1", -1), ("0", 0), ("10m", 600), ("1.5h", 5400)]
)
def test_a_model_may_stay_for_ever(text: str, seconds: float, tmp_path: Path) -> None:
    assert loaded(tmp_path, f"models: {{keep_alive: {text}}}").models.keep_alive == seconds


@pytest.mark.parametrize(("text", "seconds"), [("500ms", 0.5), ("2s", 2), ("10m", 600), ("1.5h", 5400), ("7", 7)])
def test_durations(text: str, seconds: float) -> None:
    assert read_duration(text) == seconds


@pytest.mark.parametrize(("text", "size"), [("10", 10), ("1KB", 1024), ("1.5mb", 1572864), ("2 GB", 2 * 1024**3)])
def test_sizes(text: str, size: int) -> None:
    assert read_size(text) == size


def test_the_schema_takes_the_defaults_and_refuses_unknown_keys() -> None:
    schema = json_schema(Settings)
    for good in (plain(Settings()), {"limits": {"max_body": "5MB"}}):
        validate(good, schema)
    with pytest.raises(ValidationError):
        validate({"serverr": {}}, schema)
