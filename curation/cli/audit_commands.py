"""The commands that test a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from curation.cli.app import INSPECT_PANEL, AsJson, RecipePath, StorePath, app, out, print_facts
from curation.cli.facts.tables import Audit
from curation.recipe import load_recipe

audit = typer.Typer(help="Test how well a finished run finds copies.", no_args_is_help=True)
app.add_typer(audit, name="audit", rich_help_panel=INSPECT_PANEL)


@audit.command()
def dedup(
    recipe: RecipePath,
    store: StorePath,
    sample: Annotated[
        int, typer.Option("--sample", min=1, help="Number of pool images to make edited copies of.")
    ] = 200,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the sample and of the edits.")] = 0,
    folder: Annotated[
        Path,
        typer.Option(
            "--out", help="Folder to write audit.html, audit.json and audit.parquet into."
        ),
    ] = Path("audit"),
    as_json: AsJson = False,
) -> None:
    """Make edited copies of pool images, and measure which of them the recipe's dedup finds.

    The store is not changed.
    """
    from curation.inspect.audit.console import print_audit
    from curation.inspect.audit.run import audit_dedup
    from curation.store.store import Store

    results = audit_dedup(load_recipe(recipe), Store(store), sample, seed, folder)
    names = ("audit.html", "audit.json", "audit.parquet")
    written = [str((folder / name).resolve()) for name in names]
    if as_json:
        print_facts(Audit.model_validate({"summary": results.summary, "files": written}))
        return
    print_audit(results.summary, out)
    for path in written:
        out.print(path)
