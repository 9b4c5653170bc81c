"""`atrium stores`, next to a running server and on a folder alone."""

from __future__ import annotations

import json
from pathlib import Path

from tests.running import command
from tests.stores.shop import FAKES, MODEL, RAG, Shop, create


def test_stores_are_made_filled_and_searched_by_commands(shop: Shop, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.txt", tmp_path / "bad.pdf"
    good.write_text("Vacation is 25 days a year.")
    bad.write_bytes(b"%PDF-1.4 nonsense")

    def stores(*words: str) -> tuple[int, str]:
        done = command(shop.server.data_dir, "stores", *words, **FAKES)
        return done.returncode, done.stdout + done.stderr

    assert stores("create", "papers", "--user", "bob")[0] == 0
    assert stores("create", "papers", "--user", "bob")[0] == 1
    code, said = stores("add", "papers", str(good), str(bad), "--user", "bob")
    assert code == 1
    assert "good.txt" in said
    assert "indexed" in said
    assert "bad.pdf" in said
    code, said = stores("query", "papers", "Vacation is 25 days a year.", "--user", "bob", "--json")
    assert (code, json.loads(said)[0]["file_path"]) == (0, "good.txt")
    assert "good.txt" in stores("query", "papers", "vacation", "--user", "bob")[1]
    (row,) = json.loads(stores("list", "--user", "bob", "--json")[1])
    assert (row["name"], row["owner_username"], row["document_count"]) == ("papers", "bob", 1)
    assert "papers" in stores("list", "--all")[1]
    assert stores("query", "papers", "x", "--user", "eve")[0] == 1
    assert stores("list", "--user", "nobody-here")[0] == 1


def test_a_name_that_stands_for_several_stores_is_none_to_act_on(shop: Shop) -> None:
    made: dict[str, str] = {}
    for name in ("bob", "eve"):
        with shop.client(name) as client:
            made[name] = create(client, "public papers", is_public=True)
    unclear = command(shop.server.data_dir, "stores", "delete", "public papers", **FAKES)
    assert unclear.returncode == 1
    assert "Several stores are named 'public papers', of " in unclear.stderr
    own = command(shop.server.data_dir, "stores", "delete", "public papers", "--user", "eve", **FAKES)
    assert own.returncode == 0, own.stderr
    with shop.client("bob") as bob:
        (left,) = [row["id"] for row in bob.get(f"{RAG}/databases").json()["data"] if row["name"] == "public papers"]
        assert left == made["bob"]
        bob.delete(f"{RAG}/databases/{left}").raise_for_status()


def test_a_store_is_shared_and_emptied_by_commands(shop: Shop, tmp_path: Path) -> None:
    file = tmp_path / "rules of 2026.txt"
    file.write_text("Vacation is 25 days a year.")

    def stores(*words: str) -> str:
        done = command(shop.server.data_dir, "stores", *words, **FAKES)
        assert done.returncode == 0, done.stderr
        return done.stdout

    stores("create", "ours", "--user", "bob")
    stores("add", "ours", str(file), "--user", "bob")
    assert "read_query" in stores("share", "ours", "eve", "--user", "bob")
    assert "read_write" in stores("share", "ours", "eve", "--permission", "read_write", "--user", "bob")
    assert file.name in stores("query", "ours", "vacation", "--user", "eve")
    stores("unshare", "ours", "eve", "--user", "bob")
    refused = command(shop.server.data_dir, "stores", "query", "ours", "vacation", "--user", "eve", **FAKES)
    assert "There is no store 'ours' that eve may query" in refused.stderr
    assert "--user NAME" in refused.stderr
    (row,) = json.loads(stores("documents", "ours", "--user", "bob", "--json"))
    assert (row["filename"], row["status"]) == (file.name, "indexed")
    assert file.name in stores("documents", "ours", "--user", "bob")
    stores("remove", "ours", file.name, "--user", "bob")
    assert "There are no documents." in stores("documents", "ours", "--user", "bob")
    stores("delete", "ours", "--user", "bob")
    assert "ours" not in stores("list", "--user", "bob")


def test_files_that_would_replace_one_another_and_folders_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    files = [tmp_path / part / "readme.md" for part in ("a", "b")]
    for file in files:
        file.parent.mkdir()
        file.write_text("words")
    twice = command(folder, "stores", "add", "papers", *map(str, files), **FAKES)
    assert (twice.returncode, "readme.md" in twice.stderr) == (1, True)
    whole = command(folder, "stores", "add", "papers", str(tmp_path), COLUMNS="300", **FAKES)
    assert whole.returncode == 2
    assert "is a directory" in whole.stderr


def test_without_a_server_they_work_on_the_folder(tmp_path: Path) -> None:
    folder, file = tmp_path / "data", tmp_path / "a.txt"
    file.write_text("some words")
    installed = command(folder, "models", "install", f"fake:{MODEL}?ability=embedding", **FAKES)
    assert installed.returncode == 0, installed.stderr
    for words in (("create", "papers"), ("add", "papers", str(file)), ("query", "papers", "some words")):
        done = command(folder, "stores", *words, **FAKES)
        assert done.returncode == 0, done.stderr
    assert "a.txt" in done.stdout
