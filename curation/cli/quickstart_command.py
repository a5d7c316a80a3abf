"""The command that makes a small web and curates it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from curation.cli.app import RUN_PANEL, app, err, out
from curation.engine.resources import project_module, resource_dir
from curation.errors import Detail, RecipeError
from curation.terminal import one_line, visible


@app.command(rich_help_panel=RUN_PANEL)
def quickstart(
    ctx: typer.Context,
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="Folder to make; it gets the recipe, the data and the store.",
        ),
    ] = Path("curation-quickstart"),
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            min=1,
            max=65535,
            help="Port of the small web. The default is QUICKSTART_PORT, that of an earlier call, or "
            "8765.",
        ),
    ] = None,
) -> None:
    """Make a small web on this machine, serve it on loopback, and curate it.

    It needs no internet, no checkout and no root. A second call computes only what is missing.
    """
    if ":/" in str(folder):
        name = one_line(str(folder))
        fix = "Name a folder of this machine"
        raise RecipeError(Detail(f"{name} is an address", "FOLDER", name, fix=fix))
    commands = project_module("quickstart.commands")
    shipped = resource_dir("conf") / "recipes" / "quickstart.yaml"
    err.print(f"Making a small web in {folder}, which takes half a minute the first time")
    try:
        status = commands.curate(folder, port, shipped, _options_of(ctx))
    except commands.ERRORS as error:
        raise RecipeError(visible(f"quickstart: {error}")) from error
    if status:
        raise typer.Exit(status)
    out.print(f"recipe   {folder.absolute() / commands.RECIPE}: change it, then run it again:")
    out.print(f"         {commands.again(folder)}")


def _options_of(ctx: typer.Context) -> list[str]:
    """Return the options that stood before the command, for another call of `curation`."""
    given = ctx.find_root().params
    verbose = ["--verbose"] if given.get("verbose") else []
    return [*verbose, "--log-format", str(given.get("log_format", "text"))]
