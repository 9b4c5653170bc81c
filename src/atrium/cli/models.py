"""`atrium models`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from atrium.cli.door import Door, door
from atrium.cli.options import AsJson, Config, DataDir, loaded, run
from atrium.cli.printing import print_json, print_table, size
from atrium.cli.progress import ProgressView
from atrium.core.errors import InstallFailed, InvalidValue
from atrium.core.models import Installing
from atrium.gallery.build import name_of

commands = typer.Typer(no_args_is_help=True, help="Models: installed, available, to be installed.")
POLL_SECONDS = 0.2
Name = Annotated[str, typer.Argument(metavar="NAME", help="The model's name")]


@commands.command("list")
def list_models(as_json: AsJson = False, data_dir: DataDir = None, config: Config = None) -> None:
    """Show what is installed, and what is on its way."""

    async def work() -> None:
        async with door(loaded(data_dir, config)) as api:
            models = await api.get("/api/admin/models")
        if as_json:
            print_json(models)
            return
        rows = [
            (m["name"], ", ".join(m["abilities"]), size(m["size"]), m["context"], "loaded" if m["loaded"] else "")
            for m in models["installed"]
        ]
        rows += [(i["name"], i["stage"], "", "", i["error"]) for i in models["installing"]]
        rows += [(name, "", "", "", f"problem: {what}") for name, what in models["problems"].items()]
        print_table(
            ("name", "for", "size", "window", ""), rows, "No model is installed. atrium models install --defaults"
        )

    run(work())


@commands.command("available")
def list_available(as_json: AsJson = False, data_dir: DataDir = None, config: Config = None) -> None:
    """Show what can be installed by name."""

    async def work() -> None:
        async with door(loaded(data_dir, config)) as api:
            models = await api.get("/api/admin/models/available")
        if as_json:
            print_json(models)
            return
        rows = [(m["name"], size(m["size"]), "installed" if m["installed"] else "", m["description"]) for m in models]
        print_table(("name", "download", "", "what it is"), rows, "Nothing is available.")

    run(work())


@commands.command("install")
def install_models(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Names, or paths or addresses of GGUF files")
    ] = None,
    defaults: Annotated[bool, typer.Option("--defaults", help="The default models that are missing")] = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Install models and wait until they are here. Next to a running server it goes on there if you leave."""

    async def work() -> None:
        if bool(names) == defaults:
            raise InvalidValue("Name the models to install, or give --defaults")
        body: dict[str, Any] = {"defaults": True} if defaults else {"sources": [absolute(n) for n in names or ()]}
        async with door(loaded(data_dir, config)) as api:
            begun = await api.post("/api/admin/models/install", body)
            await watch(api, [one["name"] for one in begun["installing"]])

    run(work())


@commands.command("show")
def show_model(name: Name, as_json: AsJson = False, data_dir: DataDir = None, config: Config = None) -> None:
    """Tell what is known of a model."""

    async def work() -> None:
        async with door(loaded(data_dir, config)) as api:
            model = await api.get(f"/api/admin/models/{quote(name)}")
        if as_json:
            print_json(model)
            return
        print_table(("", "", "from"), shown_rows(model), "")

    run(work())


def shown_rows(model: dict[str, Any]) -> list[tuple[str, Any, str]]:
    """What was read and decided, and for what somebody said, where it was said."""
    facts: dict[str, Any] = model.pop("facts")
    config: dict[str, Any] = model.pop("config")
    origins: dict[str, str] = model.pop("origins")
    plan: dict[str, int] = model.pop("plan") or {}
    rows: list[tuple[str, Any, str]] = [
        (key, value, "") for key, value in model.items() if value not in ("", [], {}, False)
    ]
    if plan:
        said = {"context": origins.get("context", ""), "slots": origins.get("slots", "")}
        rows += [
            (
                "context per slot",
                plan["context"],
                said["context"] or f"of {facts['dimensions']['trained_context']} trained",
            ),
            ("slots", plan["slots"], said["slots"]),
            ("threads", plan["threads"] or "the engine's choice", origins.get("threads", "")),
            ("memory", size(plan["memory"]), "estimate"),
        ]
    rows += [(key, value, "the model's file") for key in ("architecture", "quantization") if (value := facts[key])]
    rows += [(key, value, "the model's file") for key, value in facts["dimensions"].items()]
    rows.append(("vocabulary", facts["vocabulary"]["size"], "the model's file"))
    sampling: dict[str, Any] = config.pop("sampling", {})
    decided = {**config, **sampling}
    rows += [(key, value, origins.get(key, "")) for key, value in decided.items() if key not in ("context", "slots")]
    return rows


@commands.command("adopt")
def adopt_model(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A GGUF file")],
    name: Annotated[str | None, typer.Option("--name", help="The model's name; the file's unless given")] = None,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Serve a GGUF file from where it lies, without copying it. Whole folders: `models.adopt` in the configuration."""

    async def work() -> None:
        body = {"path": absolute(path), "name": name or name_of(Path(path))}
        async with door(loaded(data_dir, config)) as api:
            adopted = await api.post("/api/admin/models/adopt", body)
        print(f"{adopted['name']} is served from {body['path']}.")

    run(work())


@commands.command("delete")
def delete_model(name: Name, data_dir: DataDir = None, config: Config = None) -> None:
    """Remove a model; its runner ends first."""

    async def work() -> None:
        async with door(loaded(data_dir, config)) as api:
            await api.delete(f"/api/admin/models/{quote(name)}")
        print(f"Model {name} was deleted.")

    run(work())


def absolute(source: str) -> str:
    """A path is meant from where the command runs, which the server cannot know."""
    is_path = source.endswith(".gguf") and "://" not in source
    return str(Path(source).expanduser().absolute()) if is_path else source


async def watch(api: Door, names: list[str]) -> None:
    """Until all are installed. Raises InstallFailed when one was not."""
    with ProgressView() as progress:
        while True:
            states = (await api.get("/api/admin/models"))["installing"]
            mine = [Installing(**state) for state in states if state["name"] in names]
            progress.show(mine)
            if failed := [state for state in mine if state.stage == "failed"]:
                if len(failed) == len(mine):
                    raise InstallFailed(f"{failed[0].name}: {failed[0].error}")
            elif not mine:
                break
            await asyncio.sleep(POLL_SECONDS)
    for name in names:
        print(f"{name} is installed.")
