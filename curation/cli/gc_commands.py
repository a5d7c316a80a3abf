"""The commands that remove and keep what a store holds: gc, tag and restore."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table as Grid

from curation.cli.app import STORE_PANEL, AsJson, StorePath, app, err, out, print_facts
from curation.cli.completion import complete_run, complete_tag
from curation.cli.existing_store import existing_store
from curation.cli.facts import files as facts
from curation.cli.facts.runs import Restored
from curation.cli.facts.runs import Tag as TagFacts
from curation.errors import Detail, RecipeError

if TYPE_CHECKING:
    from curation.runner.gc.collect import Collected
    from curation.store.step_log import Waiting
    from curation.store.tags import Tag

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
LONGEST_S = 36_500 * UNITS["d"]
"""Times longer ago than this may be before those that a computer knows."""

NoWait = Annotated[
    bool,
    typer.Option("--no-wait", help="Stop if another run or gc is at work, instead of waiting."),
]


def seconds_of(text: str, option: str) -> float:
    """Return a length of time, such as `30d` or `90m`, in seconds.

    Raises:
        RecipeError: it is not one, or longer than LONGEST_S.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if match is None:
        fix = "Write a number and s, m, h or d, such as 24h"
        raise RecipeError(Detail(f"{text!r} is no length of time", option, text, fix=fix))
    seconds = float(match[1]) * UNITS[match[2]]
    if seconds > LONGEST_S:
        fix = f"Write at most {LONGEST_S / UNITS['d']:.0f}d"
        raise RecipeError(Detail(f"{text!r} is too long", option, text, fix=fix))
    return seconds


def _waiting(no_wait: bool) -> Waiting:
    from curation.store.step_log import Waiting

    return Waiting(wait=not no_wait, notify=err.print)


@app.command(rich_help_panel=STORE_PANEL)
def gc(
    store: StorePath,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be removed, and remove nothing.")
    ] = False,
    keep: Annotated[
        int | None,
        typer.Option(
            "--keep",
            min=1,
            help="Number of finished runs of each recipe to keep, the latest first. The default is 1.",
        ),
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option(
            "--older-than",
            help="Remove only finished runs that ended longer ago than this, such as 30d. The latest "
            "run of each recipe is kept.",
        ),
    ] = None,
    grace: Annotated[
        str,
        typer.Option(
            "--grace",
            help="How long to keep runs that a later run replaced, and files that no run names.",
        ),
    ] = "24h",
    drop: Annotated[
        list[str] | None,
        typer.Option(
            "--drop",
            metavar="RECIPE",
            help="Name of a recipe that is not run any more: none of its runs is kept, unless it has a "
            "tag or is at work. It may be repeated.",
        ),
    ] = None,
    no_wait: NoWait = False,
    as_json: AsJson = False,
) -> None:
    """Remove what no kept run needs: files, records, work tables and reports.

    The latest finished run of each recipe is kept, and every run that has a tag or has not finished.
    """
    from curation.runner.gc.collect import collect
    from curation.runner.gc.kept_runs import Retention

    if keep is not None and older_than is not None:
        fix = "Give --keep or --older-than, not both"
        raise RecipeError(Detail("two rules say which runs to keep", "--keep", keep, fix=fix))
    limit = None if older_than is None else seconds_of(older_than, "--older-than")
    dropped = frozenset(drop or ())
    retention = Retention(keep or 1, limit, seconds_of(grace, "--grace"), dropped)
    collected = collect(existing_store(store), retention, dry_run, _waiting(no_wait))
    if as_json:
        print_facts(facts.Collected.model_validate({"dry_run": dry_run, **asdict(collected)}))
    else:
        _print_collected(collected, dry_run)


def _print_collected(collected: Collected, dry_run: bool) -> None:
    from curation.runner.gc.removal_list import total

    removed = "would be removed" if dry_run else "removed"
    grid = Grid("part", "files kept", "MB kept", f"files {removed}", f"MB {removed}")
    for column in grid.columns[1:]:
        column.justify = "right"
    parts = {**collected.tallies, "total": total(collected.tallies.values())}
    for name, tally in parts.items():
        grid.add_row(
            name,
            f"{tally.kept_files:,}",
            f"{tally.kept_bytes / 1e6:,.1f}",
            f"{tally.removed_files:,}",
            f"{tally.removed_bytes / 1e6:,.1f}",
        )
    out.print(grid)
    if collected.taken_down:
        out.print(f"taken down: {_tables(collected.taken_down)} {removed}")
    if collected.left:
        out.print(
            f"taken down, but kept: {_tables(collected.left)}. No other version has their other rows. "
            "Run the recipes of these runs again until they finish, then gc, or drop those that you "
            "run no more (--drop)."
        )
    for run, reason in collected.kept.items():
        out.print(f"kept     {run}  {reason}")
    for run in collected.removed:
        out.print(f"{'removed' if not dry_run else 'would go'}  {run}")


def _tables(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{table} {count:,} files" for table, count in counts.items())


@app.command(rich_help_panel=STORE_PANEL)
def tag(
    store: StorePath,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="The tag. Without it, tags are listed.",
            autocompletion=complete_tag,
        ),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(
            "--run",
            help="Run: a tag, or the beginning of its name. The default is the latest finished run.",
            autocompletion=complete_run,
        ),
    ] = None,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete the tag. Its run stays until the next gc.")
    ] = False,
    no_wait: NoWait = False,
    as_json: AsJson = False,
) -> None:
    """Give a run a name, so that gc keeps it; or list the tags of a store.

    With --json, all tags are printed, as they are after the command.
    """
    from curation.runner.gc.restore import tag_run
    from curation.store.tags import delete_tag, read_tags

    if name is None and (delete or run is not None):
        fix = "Name the tag: curation tag NAME --store STORE"
        raise RecipeError(Detail("no tag is named", "NAME", fix=fix))
    if delete and run is not None:
        fix = "Leave it out: a tag has one run"
        raise RecipeError(Detail("it has no effect beside --delete", "--run", run, fix=fix))
    opened = existing_store(store)
    done = ""
    if name is not None and delete:
        delete_tag(opened, name)
        done = f"Deleted the tag {name}."
    elif name is not None:
        added = tag_run(opened, name, run, _waiting(no_wait))
        done = f"{added.name} names run {added.run}."
    if as_json:
        print_facts([TagFacts.model_validate(asdict(each)) for each in read_tags(opened)])
    elif done:
        out.print(done)
    else:
        _print_tags(read_tags(opened))


def _print_tags(tags: Sequence[Tag]) -> None:
    grid = Grid("tag", "run", "created")
    for each in tags:
        grid.add_row(each.name, each.run, each.created)
    out.print(grid if tags else "No tag yet.")


@app.command(rich_help_panel=STORE_PANEL)
def restore(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN_OR_TAG",
            help="A tag, a run, or the beginning of a run's name.",
            autocompletion=complete_run,
        ),
    ],
    store: StorePath,
    no_wait: NoWait = False,
    as_json: AsJson = False,
) -> None:
    """Make the tables of an earlier run the latest again. No row is computed."""
    from curation.runner.gc.restore import restore_run
    from curation.store.run_log import find_run

    opened = existing_store(store)
    restored = restore_run(opened, find_run(opened, run), _waiting(no_wait))
    if as_json:
        print_facts(Restored(run=restored.run, restored_from=restored.restored_from))
    else:
        out.print(f"Run {restored.run} has the tables of run {restored.restored_from}.")
