"""Atrium as a gateway before both upstreams: keys checked, models routed, requests accounted."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.relay.cores import pinned
from bench.relay.subject import ATRIUM, Address, Subject
from bench.served import served

CONFIG = """
endpoints:
  - {{name: posts, url: "http://127.0.0.1:{posts}", type: openai, check_interval: 5s}}
  - {{name: streams, url: "http://127.0.0.1:{streams}", type: openai, check_interval: 5s}}
limits: {{global_per_minute: 0, per_ip_per_minute: 0}}
models: {{install_defaults: false}}
telemetry: {{level: warning}}
"""
PATH = "/olla/openai/v1/chat/completions"


@contextmanager
def atrium(folder: Path, direct: Subject, core: int) -> Generator[Subject]:
    data_dir = folder / "data"
    data_dir.mkdir(parents=True)
    config = CONFIG.format(posts=direct.posts.port, streams=direct.streams.port)
    (data_dir / "atrium.yaml").write_text(config, "utf-8")
    with ExitStack() as stack:
        try:
            with pinned(core):
                server = stack.enter_context(served(data_dir))
        except RuntimeError as error:
            said = (folder / "server.log").read_text("utf-8", errors="replace")
            raise RuntimeError(f"{error}: {said[-500:]}") from error
        address = Address(server.door.port, PATH, server.door.key)
        yield Subject(ATRIUM, server.process.pid, address, address)
