"""Models that are served where they lie: found however they are kept, and looked at again without a restart."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from atrium.core.errors import InvalidValue
from atrium.core.models import Ability, Catalog, ModelConfig, Said
from atrium.core.requests import Sampling
from atrium.gallery.library import Library
from atrium.gallery.shelves import Seen, Shelves
from tests.engines.supervised import Told
from tests.gallery.tiny import WIDTH, write_llama, write_projector

PATIENCE = 60.0


@asynccontextmanager
async def shelved(data: Path, *folders: Path) -> AsyncGenerator[tuple[Library, Shelves, Told]]:
    told = Told()
    library = Library(data, {}, {}, told)
    library.open()
    async with Shelves(library, folders, told, rescan=0.05, unstated_context=300) as shelves:
        yield library, shelves, told


async def until(library: Library, told: Told, holds: Callable[[Catalog], bool]) -> Catalog:
    """Every change is told as an event."""
    async with asyncio.timeout(PATIENCE):
        while not holds(catalog := library.snapshot()):
            told.came.clear()
            await told.came.wait()
    return catalog


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


async def test_files_are_found_however_deep_and_stay_where_they_are(tmp_path: Path, tiny: Path) -> None:
    models = tmp_path / "models"
    publisher = models / "publisher" / "Some-Repo-GGUF"
    hub = models / "hub" / "models--org--repo"
    for folder in (publisher, hub / "blobs", hub / "snapshots" / "old", hub / "snapshots" / "new", hub / "refs"):
        folder.mkdir(parents=True)
    shutil.copyfile(tiny, publisher / "Some.Model-Q4_K_M.gguf")
    (hub / "refs" / "main").write_text("new")
    write_llama(hub / "blobs" / "abc", seed=1)
    (hub / "snapshots" / "new" / "cached.gguf").symlink_to("../../blobs/abc")
    (hub / "snapshots" / "old" / "outdated.gguf").symlink_to("../../blobs/abc")
    (models / "loop").symlink_to(models)
    async with shelved(tmp_path / "data", models) as (library, shelves, told):
        await shelves.settled()
        cards = library.snapshot().cards
        assert set(cards) == {"some.model-q4_k_m", "cached"}
        assert cards["cached"].path == str(hub / "snapshots" / "new" / "cached.gguf")
        assert cards["cached"].abilities == {Ability.CHAT, Ability.COMPLETION}
        assert cards["cached"].facts.quantization == "F32"
        assert told.count("model.adopted") == 2
        assert not list(library.blobs.iterdir())


async def test_a_new_file_counts_without_a_restart_and_one_that_went_is_gone(tmp_path: Path, tiny: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    async with shelved(tmp_path / "data", models) as (library, _, told):
        assert not library.snapshot().cards
        shutil.copyfile(tiny, models / "late.gguf")
        await until(library, told, lambda catalog: "late" in catalog.cards)
        (models / "late.gguf").unlink()
        await until(library, told, lambda catalog: "late" not in catalog.cards)
        await told.heard("model.gone")


async def test_what_was_looked_into_once_is_known_at_the_next_start(tmp_path: Path, tiny: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    shutil.copyfile(tiny, models / "known.gguf")
    async with shelved(tmp_path / "data", models) as (_, shelves, _):
        await shelves.settled()
    async with shelved(tmp_path / "data", models) as (library, _, _):
        assert "known" in library.snapshot().cards


async def test_a_split_model_is_one_and_is_missed_when_a_part_is(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    write_llama(models / "big.gguf", parts=3)
    async with shelved(tmp_path / "data", models) as (library, shelves, told):
        await shelves.settled()
        card = library.snapshot().cards["big"]
        assert Path(card.path).name == "big-00001-of-00003.gguf"
        assert card.size == sum(path.stat().st_size for path in models.iterdir())
        (models / "big-00002-of-00003.gguf").unlink()
        await until(library, told, lambda catalog: "big" not in catalog.cards)
        assert "parts" in library.snapshot().problems["big"]


async def test_files_that_lie_are_told_by_name_and_hide_nobody_else(tmp_path: Path, tiny: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    whole = tiny.read_bytes()
    shutil.copyfile(tiny, models / "good.gguf")
    (models / "empty.gguf").write_bytes(b"")
    (models / "cut.gguf").write_bytes(whole[: len(whole) // 2])
    (models / "noise.gguf").write_bytes(b"GGUF" + b"\xff" * 4096)
    async with shelved(tmp_path / "data", models) as (library, shelves, told):
        await shelves.settled()
        assert set(library.snapshot().cards) == {"good"}
        assert set(library.snapshot().problems) == {"empty", "cut", "noise"}
        assert {fields["model"] for fields in told.all("model.damaged")} == {"empty", "cut", "noise"}
        (models / "cut.gguf").write_bytes(whole)
        await until(library, told, lambda catalog: "cut" in catalog.cards)


async def test_equal_names_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    for number, folder in enumerate(("a", "b")):
        (tmp_path / "models" / folder).mkdir(parents=True)
        write_llama(tmp_path / "models" / folder / "same.gguf", seed=number)
    async with shelved(tmp_path / "data", tmp_path / "models") as (library, shelves, _):
        await shelves.settled()
        assert set(library.snapshot().cards) == {"same", "b-same"}


def ollama_store(folder: Path, weights: Path) -> None:
    """As Ollama keeps a model with a system prompt and parameters."""
    (folder / "blobs").mkdir(parents=True)

    def layer(kind: str, data: bytes) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (folder / "blobs" / f"sha256-{digest}").write_bytes(data)
        return {"mediaType": f"application/vnd.ollama.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    parameters = {"temperature": 0.25, "stop": ["<end>"], "num_ctx": 400, "num_predict": 9, "mirostat": "?"}
    parameters |= {"repeat_last_n": 33, "repeat_penalty": 1.5}
    layers = [
        layer("model", weights.read_bytes()),
        layer("system", b"You are a pirate."),
        layer("params", json.dumps(parameters).encode()),
        layer("template", b"{{ .Prompt }}"),
        layer("messages", b'[{"role": "user", "content": "Ahoy?"}, {"role": "assistant", "content": "Ahoy!"}]'),
    ]
    for place in ("registry.ollama.ai/library/pirate/latest", "registry.ollama.ai/ann/pirate/7b", "hf.co/org/repo/q4"):
        path = folder / "manifests" / place
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"schemaVersion": 2, "layers": layers}))
    (folder / "manifests" / "registry.ollama.ai" / "library" / "pirate" / "broken").write_text("{")


async def test_ollamas_store_is_read_with_its_prompts_and_parameters(tmp_path: Path, tiny: Path) -> None:
    ollama_store(tmp_path / "ollama" / "models", tiny)
    async with shelved(tmp_path / "data", tmp_path / "ollama") as (library, shelves, _):
        await shelves.settled()
        catalog = library.snapshot()
    assert set(catalog.cards) == {"pirate:latest", "ann/pirate:7b", "hf.co/org/repo:q4"}
    assert catalog.aliases["pirate"] == ("pirate:latest",)
    card = catalog.cards["pirate:latest"]
    assert card.digest == hashlib.sha256(tiny.read_bytes()).hexdigest()
    assert card.config.system == "You are a pirate."
    assert card.config.context == 400
    assert card.config.sampling == Sampling(
        temperature=0.25, max_tokens=9, stop=("<end>",), repeat_last_n=33, repeat_penalty=1.5
    )
    assert card.config.messages == (("user", "Ahoy?"), ("assistant", "Ahoy!"))
    assert card.config.origins["temperature"] == "the Modelfile"


async def test_a_projector_belongs_to_the_model_that_takes_its_vectors(tmp_path: Path) -> None:
    fit, misfit = tmp_path / "models" / "fit", tmp_path / "models" / "misfit"
    for folder, width in ((fit, WIDTH), (misfit, WIDTH + 8)):
        folder.mkdir(parents=True)
        write_llama(folder / f"{folder.name}.gguf")
        write_projector(folder / "mmproj-model-f16.gguf", width=width)
    async with shelved(tmp_path / "data", tmp_path / "models") as (library, shelves, told):
        await shelves.settled()
        seeing = library.snapshot().cards["fit"]
        assert seeing.projector
        assert Ability.VISION in seeing.abilities
        blind = library.snapshot().cards["misfit"]
        assert blind.projector is None
        assert Ability.VISION not in blind.abilities
        assert f"{WIDTH} numbers" in library.snapshot().problems["misfit"]
        (library.folder / "fit.yaml").write_text("projector: ''")
        await until(library, told, lambda catalog: catalog.cards["fit"].projector is None)
        (library.folder / "fit.yaml").write_text(f"projector: {misfit / 'mmproj-model-f16.gguf'}")
        await until(library, told, lambda catalog: "fit" in catalog.problems)


async def test_a_configuration_counts_at_once_and_a_broken_one_leaves_the_last_good(tmp_path: Path, tiny: Path) -> None:
    models, data = tmp_path / "models", tmp_path / "data"
    models.mkdir()
    shutil.copyfile(tiny, models / "mine.gguf")
    async with shelved(data, models) as (library, shelves, told):
        await shelves.settled()
        config = data / "mine.yaml"
        config.write_text("system: Be brief.\nparameters:\n  temperature: 0.5\naliases: [short]\nslots: 2\n")
        catalog = await until(library, told, lambda catalog: catalog.cards["mine"].config.system == "Be brief.")
        assert catalog.cards["mine"].config.origins["temperature"] == "mine.yaml:3"
        assert catalog.cards["mine"].slots == 2
        assert library.snapshot().aliases["short"] == ("mine",)
        config.write_text("system: Be brief.\nparameters:\n  temperature: warm\n")
        broken = await told.heard("model.config_broken")
        assert broken["kept"] is True
        assert "mine.yaml:3" in str(broken["error"])
        assert library.snapshot().cards["mine"].config.sampling.temperature == 0.5
        assert "mine.yaml:3" in library.snapshot().problems["mine"]
    async with shelved(data, models) as (library, shelves, told):
        await shelves.settled()
        assert told.all("model.config_broken")[0]["kept"] is True
        assert library.snapshot().cards["mine"].config.sampling.temperature == 0.5, "not lost by a restart"
        assert "mine.yaml:3" in library.snapshot().problems["mine"]
        config.unlink()
        catalog = await until(library, told, lambda catalog: catalog.cards["mine"].config.system is None)
        assert "mine" not in library.snapshot().problems
        assert not list((data / "configs").iterdir())


async def test_models_are_made_of_others_and_of_files(tmp_path: Path, tiny: Path) -> None:
    data = tmp_path / "data"
    async with shelved(data) as (library, shelves, _):
        await shelves.write(Said("file-one", ModelConfig(system="one", aliases=("f",)), file=str(tiny)))
        assert library.snapshot().cards["file-one"].path == str(tiny)
        await shelves.write(Said("org/two:big", ModelConfig(sampling=Sampling(top_k=5)), base="file-one"))
        two = library.snapshot().cards["org/two:big"]
        assert (two.config.system, two.config.sampling.top_k, two.parent) == ("one", 5, "file-one")
        assert library.snapshot().aliases["f"] == ("file-one",)
        (data / "circle.yaml").write_text("base: circle")
        (data / "lost.yaml").write_text("base: nobody")
        await shelves.refresh()
        assert {"circle", "lost"} <= set(library.snapshot().problems)
        assert set(library.snapshot().cards) == {"file-one", "org/two:big"}
        await shelves.remove("file-one")
        assert not library.snapshot().cards
    async with shelved(data) as (library, _, _):
        assert "org/two:big" in library.snapshot().problems


async def test_what_could_not_be_read_back_is_not_written(tmp_path: Path) -> None:
    async with shelved(tmp_path / "data") as (library, shelves, _):
        with pytest.raises(InvalidValue, match="template"):
            await shelves.write(Said("bad", ModelConfig(template="{% if %}")))
        with pytest.raises(InvalidValue):
            await shelves.write(Said("bad", ModelConfig(sampling=Sampling(temperature=9))))
        assert not list(library.folder.glob("*.yaml"))


async def test_a_file_that_states_no_context_gets_the_configured_one(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    write_llama(tmp_path / "m" / "bare.gguf", context=None)
    async with shelved(tmp_path / "data", tmp_path / "m") as (library, shelves, _):
        await shelves.settled()
        assert library.snapshot().cards["bare"].config.context == 300


async def test_what_the_file_recommends_lies_under_what_is_said(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    write_llama(tmp_path / "m" / "warm.gguf", temperature=0.75)
    async with shelved(tmp_path / "data", tmp_path / "m") as (library, shelves, _):
        await shelves.settled()
        own = library.snapshot().cards["warm"].config
        assert own.sampling.temperature == 0.75
        assert own.origins["temperature"] == "the model's file"
        await shelves.write(Said("warm", ModelConfig(sampling=Sampling(temperature=0.1))))
        assert library.snapshot().cards["warm"].config.sampling.temperature == 0.1


async def test_at_the_start_folders_are_looked_through_once(tmp_path: Path) -> None:
    looks: list[Seen] = []

    class Counted(Shelves):
        async def refresh(self, *, hurried: bool = False) -> Seen:
            looks.append(await super().refresh(hurried=hurried))
            return looks[-1]

    library = Library(tmp_path, {}, {}, told := Told())
    library.open()
    async with Counted(library, (tmp_path,), told, rescan=3600, unstated_context=300) as shelves:
        await shelves.settled()
    assert len(looks) == 1
