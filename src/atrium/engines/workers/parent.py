"""No orphans: a child ends when its parent is gone, however the parent died.

Two ways, since each has a hole: the kernel's signal is tied to the thread that started us, and a pipe's other end may
have been inherited by somebody else.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import signal
import sys
import threading
from pathlib import Path

PR_SET_PDEATHSIG = 1
EXPENDABLE = 500
ORPHANED = 64
"""Exit code of a child whose parent went away."""


def worker_arguments() -> argparse.ArgumentParser:
    """What every worker is told: its socket and its parent."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--socket", required=True, help="path of the unix socket to serve on")
    parser.add_argument("--parent", required=True, type=int, help="process id to live and die with")
    return parser


def end_with_parent(parent: int) -> None:
    """Standard input must be the read end of a pipe whose only writer is the parent, which never writes."""
    ask_for_signal(parent)
    threading.Thread(target=_watch_pipe, name="parent", daemon=True).start()


def ask_for_signal(parent: int) -> None:
    """The kernel's way alone, for a worker that notices the end of its input by itself."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        # Should the kernel ever have to end somebody for memory, then a runner, which is started again.
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(f"{EXPENDABLE}\n", encoding="ascii")
    if os.getppid() != parent:
        # It died before we asked for the signal, which will never come.
        os._exit(ORPHANED)


def _watch_pipe() -> None:
    while os.read(0, 4096):
        pass
    os._exit(ORPHANED)
