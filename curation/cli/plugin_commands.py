"""The command that lists what recipes may name."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table as Grid

from curation.cli.app import EXTEND_PANEL, AsJson, app, out, print_facts
from curation.cli.facts.plans import Member, Members


@app.command(rich_help_panel=EXTEND_PANEL)
def plugins(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PLUGIN",
            help="Plug-ins to load first, named as in the `plugins` of a recipe.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List what a recipe may name: filters, heads, encoders, strategies and installed plug-ins."""
    from curation.plugins import REGISTRIES, installed_plugins, load_plugins

    load_plugins(names or [])
    members = [
        Member(kind=r.noun, name=name, module=r.module_of(name), version=entry.version)
        for r in REGISTRIES.values()
        for name, entry in r.items()
    ]
    if as_json:
        print_facts(Members(members=members, installed=installed_plugins()))
        return
    grid = Grid("kind", "name", "module", "version")
    for member in members:
        grid.add_row(member.kind, member.name, member.module, str(member.version))
    out.print(grid)
    out.print(f"Installed plug-ins: {', '.join(installed_plugins()) or 'none'}")
