"""Commands that put a finished run to the test."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from curation.cli.app import RecipePath, StorePath, app, out
from curation.recipe import load_recipe

audit = typer.Typer(help="Put a finished run to the test.", no_args_is_help=True)
app.add_typer(audit, name="audit")


@audit.command()
def dedup(
    recipe: RecipePath,
    store: StorePath,
    sample: Annotated[
        int, typer.Option("--sample", min=1, help="Pool pictures to plant copies of.")
    ] = 200,
    seed: Annotated[int, typer.Option("--seed", help="Decides the sample and the edits.")] = 0,
    folder: Annotated[Path, typer.Option("--out", help="Folder to write into.")] = Path("audit"),
) -> None:
    """Plant edited copies of pool pictures, and tell which of them the recipe's dedup finds."""
    from curation.engine.store import Store
    from curation.inspect.audit.console import tell
    from curation.inspect.audit.run import audit_dedup

    found = audit_dedup(load_recipe(recipe), Store(store), sample, seed, folder)
    tell(found.told, out)
    for name in ("audit.html", "audit.json", "audit.parquet"):
        out.print(escape(str((folder / name).resolve())))
