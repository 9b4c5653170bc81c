"""Models from addresses: fetched once, gone on with where a try broke off, given up when nobody waits for them."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from atrium.core.errors import AtriumError, Conflict, InstallFailed, InvalidValue, NotFound
from atrium.core.models import Installing
from atrium.decisions.judge_address import refused_for_install
from atrium.gallery.build import Builder
from atrium.gallery.download import FileDownload
from atrium.gallery.fetch import PipFetch
from atrium.gallery.installer import Installer
from atrium.gallery.library import Library
from atrium.relay.downloads import HttpDownloads
from tests.engines.supervised import Told
from tests.gallery.tiny import write_llama

RANGE = re.compile(rb"\r\nrange: bytes=(\d+)-", re.IGNORECASE)


@dataclass
class Shop:
    """A server with one file; it breaks off after `breaks` bytes as often as that has numbers."""

    file: bytes
    mark: str = '"one"'
    breaks: list[int] = field(default_factory=list[int])
    held: asyncio.Event = field(default_factory=asyncio.Event)
    heads: list[bytes] = field(default_factory=list[bytes])
    came: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        self.came.set()
        path = head.split()[1].partition(b"?")[0]
        if path == b"/moved.gguf":
            writer.write(b"HTTP/1.1 302 Found\r\nlocation: /model.gguf\r\ncontent-length: 0\r\n\r\n")
        elif path != b"/model.gguf":
            writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
        else:
            await self.give(head, writer)
        writer.close()

    async def give(self, head: bytes, writer: asyncio.StreamWriter) -> None:
        found = RANGE.search(head)
        same = f"if-range: {self.mark}".encode() in head.lower()
        start = int(found[1]) if found and same else 0
        size = len(self.file)
        if start >= size:
            writer.write(b"HTTP/1.1 416 Range Not Satisfiable\r\ncontent-length: 0\r\n\r\n")
            return
        status = f"206 Partial Content\r\ncontent-range: bytes {start}-{size - 1}/{size}" if start else "200 OK"
        lines = f"HTTP/1.1 {status}\r\ncontent-length: {size - start}\r\netag: {self.mark}\r\n\r\n"
        writer.write(lines.encode() + self.file[start : start + 100])
        await writer.drain()
        await self.held.wait()
        writer.write(self.file[start + 100 : self.breaks.pop(0) if self.breaks else size])


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("shop") / "model.gguf"
    write_llama(path)
    return path.read_bytes()


@asynccontextmanager
async def shop(file: bytes) -> AsyncGenerator[Shop]:
    one = Shop(file)
    one.held.set()
    server = await asyncio.start_server(one.answer, "127.0.0.1", 0)
    async with server:
        one.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield one


@asynccontextmanager
async def installing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[tuple[Installer, Library, Told]]:
    monkeypatch.setattr("atrium.gallery.download.FIRST_WAIT", 0.0)
    told = Told()
    library = Library(folder / "models", {}, {}, told)
    (folder / "tmp").mkdir(exist_ok=True)
    library.open()
    builder = Builder(library, PipFetch(1), FileDownload(HttpDownloads(), 3), folder / "tmp")
    async with Installer(library, builder, {}, told, parallel=2, allow_fake=False) as installer:
        yield installer, library, told


async def test_a_file_behind_an_address_becomes_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: bytes
) -> None:
    async with shop(model) as here, installing(tmp_path, monkeypatch) as (installer, library, _):
        begun = await installer.install(f"{here.url}/moved.gguf?token=secret")
        assert begun == Installing("moved", "waiting")
        card = await installer.finished("moved")
        assert card.digest == hashlib.sha256(model).hexdigest()
        assert card.source == f"{here.url}/moved.gguf"
        assert library.snapshot().cards["moved"] == card
        assert not list((tmp_path / "tmp").iterdir())


async def test_what_came_before_a_break_is_not_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: bytes
) -> None:
    async with shop(model) as here, installing(tmp_path, monkeypatch) as (installer, _, _):
        here.breaks = [1000, 2000]
        await installer.install(f"{here.url}/model.gguf")
        assert (await installer.finished("model")).digest == hashlib.sha256(model).hexdigest()
        starts = [int(found[1]) if (found := RANGE.search(head)) else 0 for head in here.heads]
        assert starts == [0, 1000, 2000]


async def test_another_file_under_the_same_address_is_fetched_from_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: bytes
) -> None:
    async with shop(b"GGUF" + b"old" * 1000) as here, installing(tmp_path, monkeypatch) as (installer, _, _):
        here.breaks = [500, 600, 700]
        await installer.install(f"{here.url}/model.gguf")
        with pytest.raises(InstallFailed, match=r"127\.0\.0\.1|bytes"):
            await installer.finished("model")
        here.file, here.mark = model, '"two"'
        await installer.install(f"{here.url}/model.gguf")
        assert (await installer.finished("model")).digest == hashlib.sha256(model).hexdigest()


async def test_what_is_no_part_of_the_file_any_more_is_fetched_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: bytes
) -> None:
    size = len(model)
    async with shop(model + b"more" * 100) as here, installing(tmp_path, monkeypatch) as (installer, _, _):
        here.breaks = [size + 10, size + 20, size + 30]
        await installer.install(f"{here.url}/model.gguf")
        with pytest.raises(InstallFailed):
            await installer.finished("model")
        here.file = model
        await installer.install(f"{here.url}/model.gguf")
        assert (await installer.finished("model")).digest == hashlib.sha256(model).hexdigest()


async def test_two_who_ask_share_one_download_and_it_ends_when_both_have_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: bytes
) -> None:
    async with shop(model) as here, installing(tmp_path, monkeypatch) as (installer, library, _):
        here.held.clear()

        async def ask() -> None:
            await installer.install(f"{here.url}/model.gguf", held=True)
            await installer.finished("model")

        first, second = asyncio.create_task(ask()), asyncio.create_task(ask())
        await here.came.wait()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert "model" in library.snapshot().installing
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        here.held.set()
        with pytest.raises(AtriumError):
            await installer.finished("model")
        assert "model" not in library.snapshot().installing
        assert len(here.heads) == 1
        await ask()
        assert "model" in library.snapshot().cards


async def test_what_somebody_installs_goes_on_when_those_who_joined_have_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: bytes
) -> None:
    async with shop(model) as here, installing(tmp_path, monkeypatch) as (installer, _, _):
        here.held.clear()
        await installer.install(f"{here.url}/model.gguf")
        await installer.install(f"{here.url}/model.gguf", held=True)
        waiting = asyncio.create_task(installer.finished("model"))
        await here.came.wait()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        here.held.set()
        assert (await installer.finished("model")).size == len(model)


async def test_a_file_does_not_stand_for_another_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: bytes
) -> None:
    async with shop(model) as here, shop(model) as there, installing(tmp_path, monkeypatch) as (installer, _, _):
        here.held.clear()
        await installer.install(f"{here.url}/model.gguf")
        for _ in range(2):
            with pytest.raises(Conflict, match=f"from {here.url}/model.gguf already"):
                await installer.install(f"{there.url}/model.gguf")
            here.held.set()
            await installer.finished("model")
        await installer.install(f"{here.url}/model.gguf?again=1")
        await installer.finished("model")
        assert (len(here.heads), len(there.heads)) == (2, 0)


@pytest.mark.parametrize(
    ("source", "error", "said"),
    [
        ("/other.gguf", NotFound, "has no such file"),
        ("/model.bin", InvalidValue, "Only GGUF files"),
    ],
)
async def test_what_is_not_there_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: bytes, source: str, error: type[Exception], said: str
) -> None:
    async with shop(model) as here, installing(tmp_path, monkeypatch) as (installer, _, _):
        with pytest.raises(error, match=said):
            await installer.finished((await installer.install(f"{here.url}{source}")).name)
    assert not list((tmp_path / "tmp").iterdir())


async def test_a_page_that_is_no_model_is_given_up_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with shop(b"<html>" * 100) as here, installing(tmp_path, monkeypatch) as (installer, library, _):
        await installer.install(f"{here.url}/model.gguf")
        with pytest.raises(InstallFailed, match="no GGUF file"):
            await installer.finished("model")
        assert library.snapshot().installing["model"].stage == "failed"
        with pytest.raises(InvalidValue, match="is refused"):
            await installer.finished((await installer.install("http://169.254.169.254/latest.gguf")).name)
        assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize(
    ("address", "own", "led"),
    [
        ("8.8.8.8", True, True),
        ("127.0.0.1", True, False),
        ("::1", True, False),
        ("10.1.2.3", True, False),
        ("192.168.0.9", True, False),
        ("100.64.1.1", True, False),
        ("fd00::1", True, False),
        ("::ffff:10.0.0.1", True, False),
        ("169.254.169.254", False, False),
        ("fe80::1", False, False),
        ("224.0.0.1", False, False),
        ("100.100.100.200", False, False),
        ("fd00:ec2::254", False, False),
        ("168.63.129.16", False, False),
    ],
)
def test_an_administrator_installs_from_the_own_network_unless_a_public_machine_leads_there(
    address: str, own: bool, led: bool
) -> None:
    assert (not refused_for_install(address, led=False)) is own
    assert (not refused_for_install(address, led=True)) is led
