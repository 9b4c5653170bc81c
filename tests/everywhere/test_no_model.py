"""A request that names no model, where other models than the defaults are here. Contract `lollms.md`, section 3."""

from __future__ import annotations

from tests.running import RunningServer


def test_a_local_model_stands_in_for_a_default_that_is_not_there(house: RunningServer) -> None:
    text = "Hello. 👩🏽"
    with house.client() as client:
        for model in ({}, {"model": None}, {"model": ""}):
            asked = client.post("/lollms/v1/tokenize", json={"text": text, **model}).json()
            named = client.post("/lollms/v1/tokenize", json={"text": text, "model": "parrot"}).json()
            assert asked == named
            assert "exact" not in asked
            window = client.post("/lollms/v1/context_size", json=model).json()
            assert window == client.post("/lollms/v1/context_size", json={"model": "parrot"}).json()
            answer = client.post("/lollms/v1/long_context_process", json={"text": text, **model})
            assert (answer.status_code, answer.json()["model"]) == (200, "parrot")
