"""The command that lists what a recipe needs, and downloads weights."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table as Grid

from curation.cli.app import RUN_PANEL, AsJson, RecipePath, app, out, print_facts
from curation.cli.facts.plans import NeededFile
from curation.errors import Detail, RecipeError
from curation.recipe import load_recipe


@app.command(rich_help_panel=RUN_PANEL)
def weights(
    recipe: RecipePath,
    no_fetch: Annotated[
        bool, typer.Option("--no-fetch", help="Only list; download nothing from `weights_from`.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the weights, lists and plug-ins that a recipe needs, and download missing weights.

    A downloaded file is kept only if its SHA-256 is that of the recipe.
    """
    from curation.inspect.weights import needs_of

    needs = needs_of(load_recipe(recipe), not no_fetch)
    if as_json:
        print_facts([NeededFile.model_validate(need._asdict()) for need in needs])
    else:
        grid = Grid("place", "what", "state")
        for need in needs:
            grid.add_row(need.place, need.what, need.state)
        out.print(grid)
    lacking = [Detail(f"{n.what}: {n.problem}", n.place) for n in needs if n.problem]
    if lacking:
        raise RecipeError(*lacking, within="A run would lack")
