"""The command that lists what recipes may name."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table as Grid

from curation.cli.app import app, out


@app.command()
def plugins(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PLUGIN]...", help="Plug-ins to load first, as a recipe names them."
        ),
    ] = None,
) -> None:
    """List filters, heads, encoders and strategies, those of plug-ins included."""
    from curation.plugins import REGISTRIES, installed_plugins, load_plugins

    load_plugins(names or [])
    grid = Grid("kind", "name", "module", "version")
    for registry in REGISTRIES.values():
        for name, entry in registry.items():
            grid.add_row(registry.noun, name, registry.module_of(name), str(entry.version))
    out.print(grid)
    offered = installed_plugins()
    out.print(f"Installed plug-ins: {escape(', '.join(offered) or 'none')}")
