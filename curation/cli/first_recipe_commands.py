"""The commands init and check."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.filesize import decimal
from rich.table import Table as Grid

from curation.activity import format_duration
from curation.cli.app import RUN_PANEL, AsJson, RecipePath, app, out, print_facts
from curation.cli.facts.checks import Check
from curation.cli.output_file import as_yaml
from curation.errors import Detail, RecipeError
from curation.progress import shown_wait
from curation.recipe import load_recipe
from curation.terminal import Terminal, styled

if TYPE_CHECKING:
    from curation.inspect.check.check import Checked
    from curation.inspect.check.findings import Finding
    from curation.inspect.check.survey import Survey

Paths = Annotated[
    list[str],
    typer.Argument(
        metavar="FOLDER_OR_FILE",
        help="Pictures: folders, tars, Parquet files with pictures, lists of URLs or paths.",
    ),
]
Seeds = Annotated[
    list[str] | None,
    typer.Option(
        "--seeds", help="A curated set: the recipe retrieves similar pictures. It may be repeated."
    ),
]
HeldOut = Annotated[
    list[str] | None,
    typer.Option(
        "--held-out",
        help="An evaluation set: the dataset has no copies of it. It may be repeated.",
    ),
]


@app.command(rich_help_panel=RUN_PANEL)
def init(
    paths: Paths,
    seeds: Seeds = None,
    held_out: HeldOut = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--out",
            help="Recipe to write. The default follows from the first path.",
            callback=as_yaml,
        ),
    ] = None,
    contact: Annotated[
        str | None,
        typer.Option(
            "--contact",
            help="Your e-mail address or web page, which is sent to hosts. Lists of URLs need it.",
        ),
    ] = None,
) -> None:
    """Look at files, and write a recipe for them, with comments. No picture is downloaded."""
    from curation.inspect.first_recipe.draft import draft, name_of
    from curation.inspect.first_recipe.text import recipe_text

    path = Path(to or f"{name_of(paths[0])}.yaml")
    if path.exists():
        raise _existing(path)
    with shown_wait("Looking at the files, and at a sample of the pictures …"):
        drafted = draft(paths, seeds or (), held_out or (), name_of(path.name), contact)
    text = recipe_text(drafted, str(path))
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise _existing(path) from error
    out.print(_sources_grid(drafted.surveys))
    for name, notes in drafted.notes.items():
        for note in notes:
            out.print(styled(("note", "bold"), f"     {name}: {note}"), soft_wrap=True)
    quoted = shlex.quote(str(path))
    out.print(f"recipe   {path}")
    out.print(f"next     curation check {quoted}")
    out.print(f"         curation run {quoted} --store {drafted.store}")


def _existing(path: Path) -> RecipeError:
    message = f"{str(path)!r} exists, and `curation init` overwrites nothing"
    fix = "Name another file with --out, or move it away"
    return RecipeError(Detail(message, "--out", str(path), fix=fix))


@app.command(rich_help_panel=RUN_PANEL)
def check(
    recipe: RecipePath,
    store: Annotated[
        str | None,
        typer.Option("--store", help="Store of the later run: its free space is checked."),
    ] = None,
    sample: Annotated[
        int,
        typer.Option(
            "--sample",
            min=0,
            help="Number of local pictures to decode and score, to try thresholds.",
        ),
    ] = 200,
    as_json: AsJson = False,
) -> None:
    """Check a recipe against its files and this machine, before any work. No picture is downloaded."""
    from curation.inspect.check.check import check_recipe

    loaded = load_recipe(recipe)
    with shown_wait("Looking at the files, a sample of the pictures, and this machine …"):
        checked = check_recipe(loaded, store, sample)
    if as_json:
        print_facts(Check.model_validate(checked.to_json()))
    else:
        _print_checked(checked)
    if checked.problems:
        raise typer.Exit(RecipeError.exit_status)


def _print_checked(checked: Checked) -> None:
    facts = checked.facts
    out.print(_sources_grid(facts.surveys))
    for label, text in _facts(checked):
        out.print(f"{label:<9}{text}")
    print_warnings(checked.warnings, out)
    for problem in checked.problems:
        out.print(styled(("problem", "bold red"), f"  {problem}"))
    problems, warnings = len(checked.problems), len(checked.warnings)
    ready = "cannot run yet" if problems else "is ready to run"
    counts = f"{_count(problems, 'problem')}, {_count(warnings, 'warning')}"
    out.print(f"{facts.recipe.name} {ready}: {counts}")


def _sources_grid(surveys: Sequence[Survey]) -> Grid:
    grid = Grid("source", "role", "format", "rows", "captions", "URLs", "pictures in files", "bad")
    for column in grid.columns[3:]:
        column.justify = "right"
    for survey in surveys:
        read, about = len(survey.read), "" if survey.is_exact else "~"
        counts = (
            survey.count("caption"),
            survey.count("url"),
            survey.local_images,
            len(survey.bad),
        )
        shares = (f"{round(100 * count / read)} %" if count else "none" for count in counts)
        source = survey.source
        grid.add_row(source.name, source.role, source.format, f"{about}{survey.rows:,}", *shares)
    return grid


def _facts(checked: Checked) -> list[tuple[str, str]]:
    """Return labelled lines on the sample, the weights, the machine and what the run would need."""
    facts, lines = checked.facts, []
    trial, machine, estimate = facts.trial, facts.machine, facts.estimate
    if trial.pictures:
        lines.append(
            ("sample", f"{trial.stored:,} of {trial.pictures:,} pictures of the pool are usable")
        )
    lines += [("weights", f"{need.place} {need.what}: {need.state}") for need in checked.needs]
    if machine:
        gpus = ", ".join(machine.gpus) or "no GPU"
        disk = f", {machine.disk / 1e9:,.1f} GB of disk free" if machine.disk is not None else ""
        memory = f"{machine.memory / 1e9:,.1f} GB of memory"
        java = f"Java {machine.java}" if machine.java else "no Java"
        lines.append(("machine", f"{machine.cores} cores, {gpus}, {memory}{disk}; {java}"))
    if estimate and machine:
        seconds = estimate.core_seconds / machine.cores + estimate.gpu_seconds / max(
            1, len(machine.gpus)
        )
        lines.append(
            (
                "estimate",
                f"about {decimal(round(estimate.stored))} written, "
                f"{decimal(round(estimate.memory))} of memory in the driver, "
                f"{format_duration(seconds)} of work without downloads",
            )
        )
    return lines


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def print_warnings(findings: Sequence[Finding], console: Terminal) -> None:
    """Print each warning: where, what, and what to do."""
    for finding in findings:
        console.print(styled(("warning", "bold yellow"), f"  {finding}"), soft_wrap=True)
