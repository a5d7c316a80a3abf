"""The command verify-store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from curation.cli.app import STORE_PANEL, AsJson, StorePath, app, out, print_facts
from curation.cli.completion import complete_table
from curation.cli.describe import describe_problems
from curation.cli.existing_store import existing_store
from curation.terminal import styled

if TYPE_CHECKING:
    from curation.store.problem import Problem
    from curation.store.store import Store


@app.command("verify-store", rich_help_panel=STORE_PANEL)
def verify_store_command(
    store: StorePath,
    table: Annotated[
        list[str] | None,
        typer.Option(
            "--table",
            help="Check this table alone, or work/STAGE for the work tables of a stage. It may be "
            "repeated.",
            autocompletion=complete_table,
        ),
    ] = None,
    set_aside: Annotated[
        bool,
        typer.Option(
            "--set-aside",
            help="Rename damaged files, so that running the recipe again computes them anew.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare every file of a store with its recorded size and checksum. The exit status is 1 if a file
    is missing or damaged."""
    from curation.store.verification import check_names, verify_store

    opened = existing_store(store)
    tables = check_names(opened, table) if table else None
    problems = verify_store(opened, tables, set_aside)
    if as_json:
        print_facts(describe_problems(problems, opened))
    else:
        print_problems(problems, opened)
        if not problems:
            out.print("Every file has the recorded size and checksum.")
    if problems:
        raise typer.Exit(1)


def print_problems(problems: Sequence[Problem], store: Store) -> None:
    """Print each problem: where it is, what is wrong, and the command that mends it."""
    for problem in problems:
        out.print(styled((problem.path, "bold"), f" {problem.problem}"))
        for name, values in (
            ("table", [problem.table]),
            ("versions", problem.versions),
            ("fragments", problem.fragments),
            ("set aside as", problem.set_aside),
            ("to mend it", [problem.remedy(store.uri)]),
        ):
            text = ", ".join(value for value in values if value)
            if text:
                out.print(f"  {name:<12} {text}")
