"""The command that lists what recipes may name."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table as Grid

from curation.cli.app import EXTEND_PANEL, app, out


@app.command(rich_help_panel=EXTEND_PANEL)
def plugins(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PLUGIN]...",
            help="Plug-ins to load first, named as in the `plugins` of a recipe.",
        ),
    ] = None,
) -> None:
    """List what a recipe may name: filters, heads, encoders, strategies and installed plug-ins."""
    from curation.plugins import REGISTRIES, installed_plugins, load_plugins

    load_plugins(names or [])
    grid = Grid("kind", "name", "module", "version")
    for registry in REGISTRIES.values():
        for name, entry in registry.items():
            grid.add_row(registry.noun, name, registry.module_of(name), str(entry.version))
    out.print(grid)
    out.print(f"Installed plug-ins: {', '.join(installed_plugins()) or 'none'}")
