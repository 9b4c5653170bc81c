"""Ten fake models and two real ones, random load, crashes: nothing is lost, nothing is a lie, all memory comes back.

`ATRIUM_SOAK_SECONDS` makes it longer: five minutes is its long form.
"""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import psutil

from tests.faults.soak import FAKES, MIB, REAL_CHAT, REAL_EMBEDDING, Soak, memory_of, runners_of
from tests.faults.test_bad_weather import WITHOUT_DEFAULTS, until
from tests.running import RunningServer, running

SECONDS = float(os.environ.get("ATRIUM_SOAK_SECONDS", "15"))
BUDGET = 640 * MIB
MOST_GROWTH = 48 * MIB
SMALL_HOUSE = {
    "ATRIUM_MODELS__MEMORY": f"{BUDGET // MIB}MB",
    "ATRIUM_MODELS__CONTEXT": "512",
    "ATRIUM_MODELS__PROMPT_CACHE": "16MB",
    "ATRIUM_MODELS__HANG_TIMEOUT": "4s",
    "ATRIUM_LIMITS__TOKEN_TIMEOUT": "15s",
    "ATRIUM_LIMITS__QUEUE_TIMEOUT": "30s",
    "ATRIUM_LIMITS__QUEUE": "8",
}


def idle(client: httpx2.Client) -> bool:
    return not any(one["busy"] or one["waiting"] for one in client.get("/api/admin/runners").json())


def every_slot_answers(client: httpx2.Client, model: str) -> None:
    """As many answers at once as the model has slots, none of them waiting for another."""
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 3, "keep_alive": 60}
    assert client.post("/v1/chat/completions", json=body).status_code == 200
    slots = next(one["slots"] for one in client.get("/api/admin/runners").json() if one["model"] == model)
    with ThreadPoolExecutor(slots) as pool:
        asking = [pool.submit(client.post, "/v1/chat/completions", json=body) for _ in range(slots)]
        assert [one.result().status_code for one in asking] == [200] * slots


async def test_a_house_under_fire_loses_nothing(server: RunningServer, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(server.data_dir / "models", folder / "models", copy_function=os.link)
    with running(folder, **SMALL_HOUSE, **WITHOUT_DEFAULTS) as house, house.client() as client:
        house.install(*(f"fake:{fake}" for fake in FAKES))
        own = psutil.Process(house.process.pid)
        await Soak(house, BUDGET, seed=1).run(SECONDS / 8)
        before = own.memory_info().rss
        seen = await Soak(house, BUDGET, seed=2).run(SECONDS)
        assert not seen.wrong, seen.wrong[:10]
        assert seen.outcomes["whole"] > seen.outcomes["broken"]
        assert seen.outcomes["broken"], "nothing broke, so nothing was tried"
        assert seen.kills
        until(lambda: idle(client), 30)
        for model in (*(fake.partition("?")[0] for fake in FAKES), REAL_CHAT):
            every_slot_answers(client, model)
        assert client.post("/v1/embeddings", json={"model": REAL_EMBEDDING, "input": "x"}).status_code == 200
        for status in client.get("/api/admin/runners").json():
            client.post(f"/api/admin/runners/{status['model']}/unload")
        until(lambda: not runners_of(house), 30)
        assert memory_of(runners_of(house)) == 0
        assert own.memory_info().rss - before < MOST_GROWTH
