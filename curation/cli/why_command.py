"""The command `why`: what became of one row, in every stage."""

from __future__ import annotations

from typing import Annotated

import typer

from curation.cli.app import (
    INSPECT_PANEL,
    AsJson,
    RecipeName,
    RunName,
    StorePath,
    app,
    out,
    print_facts,
)
from curation.cli.facts.checks import Why


@app.command(rich_help_panel=INSPECT_PANEL)
def why(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="A pair_id, image_id, SHA-256, URL, key of the source, or the path of a picture.",
        ),
    ],
    store: StorePath,
    recipe: RecipeName = None,
    run: RunName = None,
    as_json: AsJson = False,
) -> None:
    """Say what each stage made of a row, and why it is in the dataset or not.

    For a picture that is not in the store, print the nearest stored ones.
    """
    from curation.inspect.api.store import OpenStore

    with OpenStore(store, recipe, run) as opened:
        answer = opened.why(what)
    if as_json:
        print_facts(Why.model_validate(answer.to_json()))
    else:
        out.print(str(answer))
