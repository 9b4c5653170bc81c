"""The program itself, on a folder of its own and beside a running server."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.running import ATRIUM, RunningServer, command, environment, running

FAKE = {"ATRIUM_MODELS__ALLOW_FAKE": "true", "ATRIUM_MODELS__INSTALL_DEFAULTS": "false"}
PATIENCE = 60.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Generator[RunningServer]:
    with running(tmp_path_factory.mktemp("live") / "data", **FAKE) as server:
        server.install("fake:talker?pace=20ms&words=3000")
        yield server


def said(folder: Path, *words: str) -> str:
    done = command(folder, *words, **FAKE)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_folder_without_a_server_is_worked_on_directly(folder: Path) -> None:
    said(folder, "users", "create", "ann", "--password", "correct horse")
    key = said(folder, "keys", "create", "--user", "ann", "--alias", "laptop", "--quiet").strip()
    assert re.fullmatch(r"lollms_[0-9a-f]{16}_[0-9a-f]{48}", key)
    users = json.loads(said(folder, "users", "list", "--json"))
    assert [(u["username"], u["is_admin"], u["has_password"]) for u in users] == [
        ("admin", True, False),
        ("ann", False, True),
    ]
    (listed,) = json.loads(said(folder, "keys", "list", "--json"))
    assert listed["key_prefix"] == key[:23]
    assert "full_key" not in listed
    said(folder, "keys", "revoke", "laptop")
    assert json.loads(said(folder, "keys", "list", "--json")) == []
    said(folder, "users", "delete", "ann")


def test_a_key_made_or_revoked_beside_a_server_counts_at_once(live: RunningServer) -> None:
    key = said(live.data_dir, "keys", "create", "--user", "admin", "--alias", "beside", "--quiet").strip()
    with live.client(key=key) as client:
        assert client.get("/v1/models").status_code == 200
        said(live.data_dir, "keys", "revoke", key[:23])
        assert client.get("/v1/models").status_code == 401


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("keys", "create", "--user", "nobody", "--alias", "x"), 1, "There is no user 'nobody'"),
        (("keys", "create", "--user", "admin", "--alias", " "), 1, "alias"),
        (("users", "create", "ann", "--password", "short"), 1, "8 characters"),
        (("users", "delete", "admin"), 1, "last active administrator"),
        (("models", "install", "smollm2-135m-instruc"), 1, "smollm2-135m-instruct"),
        (("models", "install"), 1, "--defaults"),
        (("models", "show", "nope"), 1, "does not exist"),
        (("keys", "create"), 2, "--user"),
        (("keys", "create", "--user", "admin", "--alias", "x", "--path", "v1/*"), 1, "every path begins with '/'"),
        (("quotas", "set", "--requests", "5", "--per", "week"), 2, "month"),
        (("quotas", "set", "--requests", "-5", "--per", "day"), 2, "--requests"),
        (("chat",), 1, "Nothing was asked"),
        (("nonsense",), 2, "nonsense"),
    ],
)
def test_what_goes_wrong_is_one_sentence(folder: Path, words: tuple[str, ...], code: int, says: str) -> None:
    done = command(folder, *words)
    assert done.returncode == code
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_the_configuration_is_checked_and_shown_without_secrets(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "atrium.yaml").write_text("database: {url: 'postgresql://me:hush@db/atrium'}\n")
    shown = said(folder, "config", "show")
    assert "hush" not in shown
    assert "server.port: 9642" in shown
    assert "nothing is wrong" in said(folder, "config", "check")
    (folder / "atrium.yaml").write_text("server: {prot: 1}\n")
    refused = command(folder, "config", "check")
    assert refused.returncode == 1
    assert "'port'" in refused.stderr


def test_the_doctor_finds_this_machine_well(folder: Path) -> None:
    done = command(folder, "doctor", "--json", ATRIUM_SERVER__PORT="0")
    findings = {one["what"]: one for one in json.loads(done.stdout)}
    assert {"Python", "libgomp", "memory", "disk", "port", "data folder", "database", "engine"} <= set(findings)
    assert done.returncode == (0 if all(one["good"] for one in findings.values()) else 1)
    assert all(one["good"] or one["mend"] for one in findings.values())
    assert findings["engine"]["good"]


def test_the_version_is_told() -> None:
    done = subprocess.run([*ATRIUM, "--version"], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"atrium \d+\.\d+\.\d+\n", done.stdout)


def test_a_question_on_standard_input_is_answered_on_standard_output(live: RunningServer) -> None:
    words = (*ATRIUM, "chat", "quick", "--data-dir", str(live.data_dir))
    said(live.data_dir, "models", "install", "fake:quick?words=5")
    done = subprocess.run(
        words, input="hello", capture_output=True, text=True, env=environment(live.data_dir.parent, **FAKE), check=True
    )
    assert done.stdout.strip()
    missing = subprocess.run(
        (*ATRIUM, "chat", "nope", "--data-dir", str(live.data_dir)),
        input="hello",
        capture_output=True,
        text=True,
        env=environment(live.data_dir.parent, **FAKE),
        check=False,
    )
    assert missing.returncode == 1
    assert "does not exist" in missing.stderr


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, *words: str, home: Path, kind: str = "dumb") -> None:
        self.pid, self.screen = pty.fork()
        if self.pid == 0:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs, and so this suite, may ignore it
            os.execvpe(words[0], words, environment(home, TERM=kind, COLUMNS="200", **FAKE))
        self.shown = ""

    def until(self, pattern: str) -> str:
        """Read until what is shown since the last call matches."""
        start, deadline = len(self.shown), time.monotonic() + PATIENCE
        while not re.search(pattern, self.shown[start:]):
            ready, _, _ = select.select([self.screen], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{pattern!r} was not shown: {self.shown[start:]!r}"
            self.shown += os.read(self.screen, 65_536).decode("utf-8", "replace")
        return self.shown[start:]

    def type(self, text: str) -> None:
        os.write(self.screen, text.encode())

    def end(self) -> int:
        """What is still shown is read, since a program that cannot write cannot end; one that goes on is killed."""
        gone, deadline = os.pidfd_open(self.pid), time.monotonic() + PATIENCE
        watched = [gone, self.screen]
        while gone not in (ready := select.select(watched, [], [], PATIENCE)[0]):
            if not ready or time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                continue
            try:
                self.shown += os.read(self.screen, 65_536).decode("utf-8", "replace")
            except OSError:  # it has let go of its terminal, and is about to end
                watched.remove(self.screen)
        _, status = os.waitpid(self.pid, 0)
        os.close(gone)
        os.close(self.screen)
        return os.waitstatus_to_exitcode(status)


def busy(server: RunningServer) -> int:
    with server.client() as client:
        return sum(one["busy"] for one in client.get("/api/admin/runners").json())


@pytest.mark.parametrize("words", [("endpoints", "list", "--live"), ("top",)], ids=" ".join)
def test_what_is_watched_goes_on_changing_until_ctrl_c(live: RunningServer, words: tuple[str, ...]) -> None:
    where = ("--data-dir", str(live.data_dir))
    terminal = Terminal(*ATRIUM, *words, *where, home=live.data_dir.parent, kind="xterm")
    terminal.until("status")
    assert command(live.data_dir, "endpoints", "add", "http://127.0.0.1:9", "--name", "desk").returncode == 0
    try:
        terminal.until("desk")
    finally:
        assert command(live.data_dir, "endpoints", "remove", "desk").returncode == 0
    terminal.type("\x03")
    assert terminal.end() in (0, 130)


def test_ctrl_c_ends_the_answer_and_not_the_conversation(live: RunningServer) -> None:
    terminal = Terminal(*ATRIUM, "chat", "talker", "--data-dir", str(live.data_dir), home=live.data_dir.parent)
    terminal.until("> ")
    terminal.type("go on\n")
    terminal.until(r"go on\r\n\s*\w+ \w+")
    os.kill(terminal.pid, signal.SIGINT)
    terminal.until(r"\[stopped\]\r\n> ")
    deadline = time.monotonic() + PATIENCE
    while busy(live):
        assert time.monotonic() < deadline
    terminal.type("/clear\n")
    terminal.until("Forgotten")
    terminal.type("/exit\n")
    assert terminal.end() == 0


def test_a_password_is_asked_for_on_a_terminal_and_never_shown(folder: Path) -> None:
    words = ("users", "create", "ann", "--password", "-", "--data-dir", str(folder))
    terminal = Terminal(*ATRIUM, *words, home=folder.parent)
    terminal.until("New password: ")
    terminal.type("correct horse\n")
    terminal.until("Again: ")
    terminal.type("correct horse\n")
    terminal.until("was created")
    assert terminal.end() == 0
    assert "horse" not in terminal.shown


def test_a_command_beside_a_server_loads_no_server() -> None:
    heavy = {"atrium.app", "fastapi", "sqlalchemy", "uvloop"}
    script = f"import sys, atrium.cli; print(*({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
