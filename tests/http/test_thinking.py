"""Whether a model can think: said in Ollama's lists, and held to when it is asked."""

from __future__ import annotations

from pathlib import Path

from tests.http.test_shortening import FAKES
from tests.running import running

HI = [{"role": "user", "content": "hi"}]
THINKER = "base: plain\ntemplate: \"<think></think>{{ messages[0]['content'] }}\"\n"


def test_a_model_thinks_by_the_template_that_is_in_force(tmp_path: Path) -> None:
    with running(tmp_path / "data", **FAKES) as server, server.client() as client:
        server.install("fake:plain?words=3")
        (tmp_path / "data" / "models" / "thinker.yaml").write_text(THINKER)
        assert client.post("/api/admin/models/rescan").json()["problems"] == {}
        for model, thinks in (("plain", False), ("thinker", True)):
            assert ("thinking" in client.post("/api/show", json={"model": model}).json()["capabilities"]) is thinks
            answer = client.post("/api/chat", json={"model": model, "messages": HI, "think": True, "stream": False})
            assert answer.status_code == (200 if thinks else 400)
