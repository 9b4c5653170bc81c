"""LiteLLM's proxy, in a virtual environment of its own that outlives the run."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from bench.relay.processes import started
from bench.relay.subject import CHAT, LITELLM, STREAM, Address, Subject
from bench.served import free_port

CONFIG = """
model_list:
  - model_name: {chat}
    litellm_params: {{model: openai/{chat}, api_base: "http://127.0.0.1:{posts}/v1", api_key: none}}
  - model_name: {stream}
    litellm_params: {{model: openai/{stream}, api_base: "http://127.0.0.1:{streams}/v1", api_key: none}}
general_settings: {{master_key: sk-bench}}
litellm_settings: {{telemetry: false}}
"""


def installed() -> Path:
    """The folder of the program, in the version the tests are locked to. Raises RuntimeError when it cannot be had."""
    version = importlib.metadata.version("litellm")
    folder = Path(tempfile.gettempdir()) / f"atrium-bench-litellm-{version}"
    program = folder / "bin" / "litellm"
    if program.exists():
        return program
    print(f"installing litellm[proxy] {version} into {folder}", flush=True)
    try:
        subprocess.run((sys.executable, "-m", "venv", str(folder)), check=True, capture_output=True, text=True)
        pip = (str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", f"litellm[proxy]=={version}")
        subprocess.run(pip, check=True, capture_output=True, text=True, timeout=900)
    except (subprocess.SubprocessError, OSError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        said = error.stderr if isinstance(error, subprocess.CalledProcessError) else ""
        raise RuntimeError(f"litellm[proxy] could not be installed: {error} {str(said)[-300:]}") from error
    return program


@contextmanager
def litellm(folder: Path, direct: Subject, core: int) -> Generator[Subject]:
    program = installed()
    port = free_port()
    config = folder / "litellm.yaml"
    config.write_text(
        CONFIG.format(chat=CHAT, stream=STREAM, posts=direct.posts.port, streams=direct.streams.port), "utf-8"
    )
    command = (str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1")
    quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION"}
    with started(command, core=core, port=port, log=folder / "litellm.log", **quiet) as pid:
        address = Address(port, key="sk-bench")
        yield Subject(LITELLM, pid, address, address)
