"""The data folder: one owner, no leftovers, sockets that can be bound."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from atrium.core.errors import ConfigError, FolderInUse
from atrium.storage.folder import DataFolder
from atrium.storage.secrets import fingerprint, read_pepper

HOLD = """
import sys
from pathlib import Path
from atrium.storage.folder import DataFolder
with DataFolder(Path(sys.argv[1])).locked():
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    made = DataFolder(tmp_path / "data")
    made.create()
    return made


def test_only_its_owner_may_look_into_it(folder: DataFolder) -> None:
    for path in (folder.path, folder.secrets, folder.run):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_lock_ends_with_the_process_however_it_ends(folder: DataFolder) -> None:
    words = [sys.executable, "-c", HOLD, str(folder.path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(FolderInUse, match="data"), folder.locked():
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with folder.locked():
        pass


def test_a_path_too_long_for_sockets_gets_a_short_place(tmp_path: Path) -> None:
    long = DataFolder(tmp_path / ("x" * 120))
    long.create()
    assert len(str(long.control_socket)) < 100
    assert long.run.is_dir()


def test_leftovers_go_and_downloads_stay(folder: DataFolder) -> None:
    (folder.tmp / "old").mkdir()
    (folder.tmp / "old" / "file").touch()
    (folder.tmp / "part").touch()
    (folder.tmp / "install-1").mkdir()
    folder.clear_tmp()
    assert [path.name for path in folder.tmp.iterdir()] == ["install-1"]


def test_a_file_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be used"):
        DataFolder(tmp_path / "file" / "data").create()


def test_the_pepper_is_made_once_and_kept(folder: DataFolder) -> None:
    pepper = read_pepper(folder.secrets, None)
    assert len(pepper) == 32
    assert read_pepper(folder.secrets, None) == pepper
    assert stat.S_IMODE((folder.secrets / "pepper").stat().st_mode) == 0o600
    assert read_pepper(folder.secrets, "ab" * 32) == b"\xab" * 32
    assert fingerprint(pepper) != fingerprint(b"\xab" * 32)


@pytest.mark.parametrize("given", ["short", "zz" * 32, "ab" * 31])
def test_a_pepper_that_is_none_is_refused(folder: DataFolder, given: str) -> None:
    with pytest.raises(ConfigError, match="64 hex"):
        read_pepper(folder.secrets, given)


def test_a_damaged_pepper_is_told(folder: DataFolder) -> None:
    (folder.secrets / "pepper").write_bytes(b"half")
    with pytest.raises(ConfigError, match="damaged"):
        read_pepper(folder.secrets, None)
