"""`atrium serve`."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from atrium.cli.banner import banner
from atrium.cli.options import Config, DataDir, fail, loaded
from atrium.cli.progress import ProgressView
from atrium.core.errors import AtriumError
from atrium.settings.tree import Loaded


def serve_command(
    host: Annotated[str | None, typer.Option(help="Address to listen on")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one")] = None,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Start the server."""
    import uvloop  # noqa: PLC0415  # all of this is for the server alone, and slows every other command

    from atrium.app import Onlookers, serve  # noqa: PLC0415
    from atrium.cli.inside import environment  # noqa: PLC0415

    try:
        read = with_address(loaded(data_dir, config), host, port)

        def announce(url: str, key: str | None) -> None:
            settings = read.settings
            print(banner(url, key, settings.models.defaults.chat, open_door=not settings.auth.required), flush=True)

        with ProgressView() as progress:
            uvloop.run(serve(read, environment(), Onlookers(announce, progress.show)))
    except AtriumError as error:
        raise fail(error) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def with_address(read: Loaded, host: str | None, port: int | None) -> Loaded:
    server = read.settings.server
    server = replace(server, host=host or server.host, port=server.port if port is None else port)
    return replace(read, settings=replace(read.settings, server=server))
