"""What we use of xllamacpp, which carries no types of its own."""

from enum import Enum

class llama_pooling_type(Enum):  # noqa: N801
    LLAMA_POOLING_TYPE_MEAN = 1
    LLAMA_POOLING_TYPE_CLS = 2
    LLAMA_POOLING_TYPE_LAST = 3

class _Model:
    path: str

class _CpuParams:
    n_threads: int

class CommonParams:
    model: _Model
    mmproj: _Model
    hostnames: list[str]
    n_parallel: int
    n_ctx: int
    n_batch: int
    n_ubatch: int
    n_threads_http: int
    cpuparams: _CpuParams
    cpuparams_batch: _CpuParams
    ui: bool
    fit_params: bool
    warmup: bool
    cache_ram_mib: int
    sse_ping_interval: int
    embedding: bool
    pooling_type: llama_pooling_type

class Server:
    def __init__(self, params: CommonParams) -> None:
        """Blocks until the model is loaded; raises RuntimeError when that fails, the reason on stderr alone."""
