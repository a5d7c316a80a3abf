"""The application that commands are added to, and what they share."""

from __future__ import annotations

import logging
import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from curation.errors import CurationError, RecipeError
from curation.version import __version__

app = typer.Typer(
    help="Uncurated image-text pairs in, a curated, documented Parquet dataset out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)
err = Console(stderr=True, highlight=False)

RecipePath = Annotated[str, typer.Argument(metavar="RECIPE", help="Path of the recipe (YAML).")]
StorePath = Annotated[str, typer.Option("--store", help="Folder or URI of the store.")]


def main() -> None:
    """Run the command line; what the user can mend is one message and a status, not a trace."""
    try:
        app()
    except CurationError as error:
        err.print(f"[bold red]error:[/] {escape(str(error))}")
        sys.exit(2 if isinstance(error, RecipeError) else 1)


@app.callback(invoke_without_command=True)
def _options(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what happens.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        out.print(__version__)
        raise typer.Exit
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )


def dataset_folder(dataset: Any) -> str:
    """Return the one folder of a dataset version, within the store."""
    return f"dataset/{dataset.manifest.version}"
