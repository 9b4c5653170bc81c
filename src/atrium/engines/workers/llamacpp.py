"""One model in llama.cpp's own server on a unix socket: `python -m atrium.engines.workers.llamacpp`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Protocol

from xllamacpp import CommonParams, Server, llama_pooling_type

from atrium.engines.workers.parent import end_with_parent, worker_arguments

SPARE_HTTP_THREADS = 16
"""Beside one per slot: each open connection holds a thread, also those that only ask for health or tokens."""
PING = 15
"""Seconds of silence after which a stream carries a comment, so that a client that left is noticed."""
POOLING = {
    "mean": llama_pooling_type.LLAMA_POOLING_TYPE_MEAN,
    "cls": llama_pooling_type.LLAMA_POOLING_TYPE_CLS,
    "last": llama_pooling_type.LLAMA_POOLING_TYPE_LAST,
}


class Options(Protocol):
    """The command line; `context` is that of all slots together, `prompt_cache` in MiB."""

    socket: str
    parent: int
    model: str
    slots: int
    context: int
    batch: int
    threads: int
    prompt_cache: int
    embedding: bool
    pooling: str
    projector: str


def options() -> Options:
    parser = worker_arguments()
    parser.add_argument("--model", required=True)
    for number in ("slots", "context", "batch", "threads", "prompt-cache"):
        parser.add_argument(f"--{number}", required=True, type=int)
    parser.add_argument("--embedding", action="store_true")
    parser.add_argument("--pooling", choices=tuple(POOLING), default="mean")
    parser.add_argument("--projector", default="")
    told = argparse.Namespace()
    parser.parse_args(namespace=told)
    return told  # pyright: ignore[reportReturnType] - a Namespace has whatever the parser put into it


def physical_cores() -> int:
    """Cores that we may run on, two threads of one core counted once."""
    able = os.sched_getaffinity(0)
    cores: set[str] = set()
    for cpu in able:
        try:
            cores.add(Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text())
        except OSError:
            cores.add(str(cpu))
    return len(cores)


def parameters(told: Options) -> CommonParams:
    wanted = CommonParams()
    threads = told.threads or physical_cores()
    wanted.model.path = told.model
    wanted.hostnames = [told.socket]
    wanted.n_parallel = told.slots
    wanted.n_ctx = told.context
    wanted.n_batch = told.batch
    wanted.n_ubatch = told.batch
    wanted.n_threads_http = told.slots + SPARE_HTTP_THREADS
    wanted.cpuparams.n_threads = threads
    wanted.cpuparams_batch.n_threads = threads
    wanted.ui = False
    wanted.fit_params = False
    # One empty run after the load, so that the first caller does not pay for it.
    wanted.warmup = True
    wanted.cache_ram_mib = told.prompt_cache
    wanted.sse_ping_interval = PING
    if told.projector:
        wanted.mmproj.path = told.projector
    if told.embedding:
        wanted.embedding = True
        wanted.pooling_type = POOLING[told.pooling]
    return wanted


def main() -> None:
    told = options()
    end_with_parent(told.parent)
    try:
        _serving = Server(parameters(told))  # in threads of its own, as long as the object lives
    except RuntimeError as failed:
        sys.exit(f"fatal: {failed}")
    # Whatever the library does on SIGTERM, nothing of a runner's is worth waiting for.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Event().wait()


if __name__ == "__main__":
    main()
