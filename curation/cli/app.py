"""The application that commands are added to, and what they share."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from shutil import get_terminal_size
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from curation.cli import help_texts
from curation.cli.completion import complete_run
from curation.cli.errors import (
    INTERRUPTED,
    CommandLineError,
    end_with_bug,
    end_with_usage_error,
    fields_of,
    interruption,
    print_error,
    refuse_empty,
    refuse_options_as_values,
    termination,
    wants_json,
)
from curation.cli.facts.base import Facts
from curation.cli.process_end import run_and_end
from curation.cli.signals import Terminated, ending_in_order
from curation.logs import LogFormat, log_of, prepare_streams
from curation.streams import clean_output, open_closed_streams
from curation.terminal import Terminal
from curation.version import __version__

NARROW = 70
"""Columns of a terminal below which help is plain text."""


class _Commands(TyperGroup):
    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, words = super().resolve_command(ctx, args)
        # While a shell completes a command line, its values are still missing.
        if command is not None and not ctx.resilient_parsing:
            refuse_options_as_values(command.params, words)
        return name, command, words


app = typer.Typer(
    cls=_Commands,
    help="Turn uncurated image-text pairs into a curated and documented Parquet dataset.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
open_closed_streams()
if get_terminal_size().columns < NARROW:
    # The frames of help would cut names of options.
    app.rich_markup_mode = None
out = Terminal(soft_wrap=True, width=None if sys.stdout.isatty() else 120)
err = Terminal(stderr=True)

RUN_PANEL = "Plan and run recipes"
INSPECT_PANEL = "Look at the results of a run"
STORE_PANEL = "Look after a store"
EXTEND_PANEL = "Train heads and list plug-ins"


RecipePath = Annotated[str, typer.Argument(metavar="RECIPE", help=help_texts.RECIPE)]
StorePath = Annotated[str, typer.Option("--store", help=help_texts.STORE)]
AsJson = Annotated[
    bool,
    typer.Option("--json", help="Print JSON, as the reference describes it; errors are JSON too."),
]
RunName = Annotated[
    str | None,
    typer.Option(
        "--run",
        help="Run of the store: a tag, or the beginning of its name. The default is the latest "
        "finished run that has the tables.",
        autocompletion=complete_run,
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


def command() -> NoReturn:
    """Run the command line as a process of its own: `main`, and the end of the process."""
    run_and_end(main)


def main() -> NoReturn:
    """Run the command line. An error that the user can mend is one message and an exit status."""
    with clean_output():
        sys.exit(_run())


def _run() -> int:
    """Run the command line; return the exit status."""
    try:
        refuse_empty(sys.argv[1:])
        with ending_in_order():
            status: int = app(standalone_mode=False) or 0
        if status == INTERRUPTED:
            print_error(interruption())
        return status
    except CommandLineError as error:
        return end_with_usage_error(error)
    except typer.Abort:
        return 1
    except Terminated as error:
        print_error(termination(error), log_of(error))
        return error.status
    except Exception as error:
        fields = fields_of(error)
        if fields is not None:
            print_error(fields, log_of(error))
            return int(fields["exit_status"])
        if not wants_json():
            raise
        return end_with_bug(error)


@app.callback(invoke_without_command=True)
def _options(
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log the progress of stages.")
    ] = False,
    log_format: Annotated[
        LogFormat, typer.Option("--log-format", help=help_texts.LOG_FORMAT)
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


def print_facts(facts: Facts | Sequence[Facts]) -> None:
    """Print facts as JSON to standard output."""
    if isinstance(facts, Facts):
        out.print_json(facts.model_dump_json())
    else:
        listed = [json.loads(each.model_dump_json()) for each in facts]
        out.print_json(json.dumps(listed))
