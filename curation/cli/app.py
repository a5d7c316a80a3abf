"""The application that commands are added to, and what they share."""

from __future__ import annotations

import errno
import logging
import sys
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from curation.errors import CurationError
from curation.logs import LogFormat, log_json_error, prepare_streams
from curation.store.store import DATASET
from curation.streams import clean_output
from curation.terminal import Terminal, one_line, styled
from curation.version import __version__

if TYPE_CHECKING:
    from curation.engine.table import Table

app = typer.Typer(
    help="Turn uncurated image-text pairs into a curated and documented Parquet dataset.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
out = Terminal(soft_wrap=True, width=None if sys.stdout.isatty() else 120)
err = Terminal(stderr=True)

OF_THE_MACHINE = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ELOOP),
    *(errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG),
}
"""Errors of the operating system that a user can mend."""
MEND = "Mend that, or choose another place, and run again: what is finished is kept."

RUN_PANEL = "Plan and run recipes"
INSPECT_PANEL = "Look at the results of a run"
STORE_PANEL = "Look after a store"
EXTEND_PANEL = "Train heads and list plug-ins"

RecipePath = Annotated[
    str, typer.Argument(metavar="RECIPE", help="Path of the recipe, a YAML file.")
]
StorePath = Annotated[
    str,
    typer.Option("--store", help="Folder or URI of the store, which holds the tables of runs."),
]


RunName = Annotated[
    str | None,
    typer.Option(
        "--run",
        help="Run of the store, or how its name begins. The default is the latest finished run that "
        "has the table.",
    ),
]
RecipeName = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        help="Name of a recipe that ran on the store, or the path of its file. Needed where the store "
        "has runs of several recipes.",
    ),
]


CommandLineError = cast("type[Any]", typer.BadParameter.__mro__[2])
"""The base of all errors of the command line itself, such as an unknown option."""


def main() -> None:
    """Run the command line. An error that the user can mend is one message and an exit status."""
    with clean_output():
        sys.exit(_run())


def _run() -> int:
    """Run the command line; return the exit status."""
    try:
        return app(standalone_mode=False) or 0
    except CommandLineError as error:
        text = one_line(error.format_message())
        if log_json_error(text):
            return int(error.exit_code)
        # It imports a parser of Markdown.
        from typer.rich_utils import rich_format_error

        error.format_message = lambda: text
        rich_format_error(error)
        return int(error.exit_code)
    except typer.Abort:
        return 1
    except CurationError as error:
        print_error(str(error))
        return error.exit_status
    except OSError as error:
        if error.errno not in OF_THE_MACHINE:
            raise
        place = f"{str(error.filename)!r}: " if error.filename else ""
        print_error(f"{place}{error.strerror}. {MEND}")
        return 1


def print_error(text: str) -> None:
    """Print an error to standard error, as the other logs are."""
    if not log_json_error(text):
        err.print(styled(("error:", "bold red"), f" {text}"))


@app.callback(invoke_without_command=True)
def _options(
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log the progress of stages.")
    ] = False,
    log_format: Annotated[
        LogFormat,
        typer.Option(
            "--log-format",
            help="Form of what goes to standard error: text, or JSON with one object a line.",
        ),
    ] = "text",
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        out.print(__version__)
        raise typer.Exit
    prepare_streams(
        logging.INFO if verbose else logging.WARNING,
        "%(asctime)s %(levelname)s %(name)s: %(message)s",
        log_format,
    )
    # Each print is a line of JSON, and no line is cut to the width of a terminal.
    err.soft_wrap = log_format == "json"


def dataset_folder(dataset: Table) -> str:
    """Return the folder of a version of the dataset, within the store."""
    return f"{DATASET}/{dataset.manifest.version}"
