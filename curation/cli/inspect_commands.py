"""The commands that look at what is in a store: show, path and diff."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.filesize import decimal
from rich.table import Table as Grid

from curation.cli.app import (
    INSPECT_PANEL,
    AsJson,
    RunName,
    StorePath,
    app,
    out,
    print_facts,
)
from curation.cli.completion import complete_table, complete_version
from curation.cli.describe import by_number, describe_table
from curation.cli.existing_store import say_which_recipe
from curation.cli.facts.files import TablePaths
from curation.cli.facts.tables import Change, ComparedDataset, Difference
from curation.cli.output_file import as_parquet, whole_file
from curation.errors import Detail, RecipeError, StoreError, TakenDownError
from curation.progress import shown_wait
from curation.terminal import echo, start_of, styled

if TYPE_CHECKING:
    from curation.engine.table import Table

SHOWN_DIGITS = 12
"""Digits of a version that are printed: enough to name it."""

TableName = Annotated[
    str, typer.Argument(metavar="TABLE", help="Name of a table.", autocompletion=complete_table)
]
Version = Annotated[
    str | None,
    typer.Option(
        "--version",
        help="Version of the table, or the beginning of its name. The default is that of the run.",
        autocompletion=complete_version,
    ),
]


@app.command(rich_help_panel=INSPECT_PANEL)
def show(
    table: TableName,
    store: StorePath,
    rows: Annotated[int, typer.Option("--rows", "-n", min=0, help="Number of rows to print.")] = 5,
    version: Version = None,
    run: RunName = None,
    as_json: AsJson = False,
) -> None:
    """Print where a table is, its row counts, the measurements of its stage, and some rows."""
    from curation.cli.outcomes import print_notices
    from curation.engine.contract import contract
    from curation.engine.table import open_table
    from curation.store.manifest import TABLE_STATS
    from curation.store.store import Store

    _refuse_both(version, run)
    opened = open_table(Store(store), table, version, run)
    place: str | None = None
    manifest = opened.manifest
    if as_json:
        with suppress(StoreError):
            place = _folder(opened, version, run)
        print_facts(describe_table(opened, _first_rows(opened, rows), place))
        return
    out.print(styled((table, "bold"), f": {contract(table).grain}"))
    out.print(f"version  {manifest.version}  ({manifest.created}, stage {manifest.stage})")
    _print_place(opened, version, run)
    size = decimal(manifest.bytes)
    out.print(f"rows     {manifest.rows:,} in {len(manifest.fragments)} fragments, {size}")
    if opened.withheld is not None:
        out.print("taken down  some of these rows are: all counts have them, and readers get none")
    if manifest.seconds is not None:
        out.print(f"seconds  {manifest.seconds:,.1f} of stage {manifest.stage}")
    for role, outcomes in manifest.counts.items():
        counts = ", ".join(f"{name} {count:,}" for name, count in outcomes.items())
        out.print(f"{role:<8} {counts}")
    print_notices(manifest, out)
    for name, value in manifest.stats.items():
        if name in TABLE_STATS:
            continue
        out.print(f"{name}: {truncate(by_number(value), 400)}")
    libraries = ", ".join(
        f"{name} {versions.replace(', ', ' and ')}" for name, versions in manifest.libraries.items()
    )
    out.print(f"libraries: {libraries or 'none recorded'}")
    print_records(_first_rows(opened, rows))


def _refuse_both(version: str | None, run: str | None) -> None:
    """Refuse a version beside a run, which may have another one."""
    if version is not None and run is not None:
        message, fix = "it has no effect beside --version", "Leave one of the two out"
        raise RecipeError(Detail(message, "--run", run, fix=fix))


def _print_place(table: Table, version: str | None, run: str | None) -> None:
    """Print the command that lists the files of a version, and how SQL reads it.

    The folder of a table holds the files of older versions too, so it is not printed.
    """
    from curation.inspect.open_folder import duckdb_call, sql_name

    name, place = table.manifest.table, shlex.quote(table.store.uri)
    listing = (
        f"curation path {name} --version {table.manifest.version[:SHOWN_DIGITS]} --store {place}"
    )
    out.print(f"files    {listing}")
    if version is None:
        chosen = _print_run(table, run)
        named = f" --run {shlex.quote(chosen)}" if chosen else ""
        query = shlex.quote(f"FROM {sql_name(name)}")
        out.print(f"query    curation sql {place} {query}{named}")
    try:
        out.print(f"open with  {duckdb_call(table, _folder(table, version, run))}")
    except TakenDownError as error:
        # Who opens the files gets all of their rows.
        out.print(f"open with  `curation sql` alone: {error}")
    except StoreError as error:
        out.print(f"open with  the files alone: {error}")


def _print_run(table: Table, run: str | None) -> str | None:
    """Print which run of which recipe a version is of; return the run that a query has to name, if any.

    Without a name, that is the latest finished run of any recipe; `curation sql` asks for a name then.
    """
    from curation.store.run_log import find_run, latest_run, read_runs

    name = table.manifest.table
    record = find_run(table.store, run) if run else latest_run(table.store, name)
    if record is None:
        return run
    out.print(f"run      {record.run}  (recipe {record.recipe})")
    finished = (each.recipe for each in read_runs(table.store) if each.state == "finished")
    return record.run if run or len(set(finished)) > 1 else None


def _folder(table: Table, version: str | None, run: str | None) -> str:
    from curation.engine.iceberg import open_address
    from curation.engine.table import refuse_withheld
    from curation.inspect.open_folder import open_folder
    from curation.store.dataset_files import dataset_folder
    from curation.store.store import DATASET

    refuse_withheld({table.manifest.table: table})
    if table.manifest.table == DATASET:
        return open_address(table.store, dataset_folder(table.manifest.version))
    return open_folder(table, run, any_recipe=version is not None)


def _first_rows(table: Table, count: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for fragment in table.fragments.values():
        # A batch may have fewer rows: it ends with its file, and what was taken down is left out.
        for batch in fragment.batches(rows=min(max(count, 1), 1024)):
            rows += batch.slice(0, min(count - len(rows), len(batch))).to_pylist()
            if len(rows) >= count:
                return rows
    return rows


def print_records(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows of many columns: one line for each value."""
    for number, row in enumerate(rows):
        out.print(styled((f"row {number}", "dim")))
        for name, value in row.items():
            out.print(f"  {name:<22} {truncate(value, 120)}")


def truncate(value: Any, limit: int) -> str:
    text = f"<{len(value)} bytes>" if isinstance(value, bytes) else str(value)
    # A line break would let a value pass for another row.
    return start_of(text, limit)


@app.command(rich_help_panel=INSPECT_PANEL)
def path(
    table: TableName,
    store: StorePath,
    folder: Annotated[
        bool,
        typer.Option(
            "--dir",
            help="Print the folder by which DuckDB, Polars, pandas and Spark open the current version "
            "of a recipe, as an Iceberg table. For the table dataset: the folder of its Parquet files.",
        ),
    ] = False,
    version: Version = None,
    run: RunName = None,
    as_json: AsJson = False,
) -> None:
    """Print the absolute paths of the Parquet files of a table, one per line."""
    from curation.engine.table import open_table, refuse_withheld
    from curation.store.store import Store

    _refuse_both(version, run)
    committed = open_table(Store(store), table, version, run)
    # Who opens the files gets all of their rows.
    refuse_withheld({table: committed})
    place = _folder(committed, version, run) if folder else None
    files = [] if folder else committed.paths()
    if as_json:
        named = committed.manifest.version
        print_facts(TablePaths(table=table, version=named, folder=place, files=files))
        return
    if version is None and run is None:
        say_which_recipe(committed.store, table)
    for address in files if place is None else [place]:
        echo(address)


@app.command(rich_help_panel=INSPECT_PANEL)
def diff(
    before: Annotated[
        str,
        typer.Argument(
            metavar="A",
            help="A dataset: STORE for that of the latest finished run, STORE@VERSION or STORE@RUN.",
        ),
    ],
    after: Annotated[
        str, typer.Argument(metavar="B", help="The dataset to compare it with, in the same form.")
    ],
    parquet: Annotated[
        str | None,
        typer.Option(
            "--out",
            help="Parquet file to write, with one row per image that differs.",
            callback=as_parquet,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Count the images that differ between two datasets, by the reason why one of them lacks them."""
    from curation.inspect.diff import difference, open_dataset

    datasets = open_dataset(before), open_dataset(after)
    counts: Counter[tuple[str, str]] = Counter()
    with shown_wait("Comparing the datasets …"), _difference_writer(parquet) as write:
        for batch in difference(*datasets):
            changes, reasons = (batch.column(n).to_pylist() for n in ("change", "reason"))
            counts.update((c, r or "") for c, r in zip(changes, reasons, strict=True))
            write(batch)
    ordered = sorted(counts.items(), key=lambda c: (c[0][0], -c[1]))
    if as_json:
        print_facts(_difference_facts((before, after), datasets, ordered, parquet))
        return
    grid = Grid("change", "why the other lacks it", "images", title=f"{before} → {after}")
    grid.columns[2].justify = "right"
    for (change, reason), images in ordered:
        grid.add_row(change.replace("_", " "), reason.replace("_", " "), f"{images:,}")
    out.print(grid if counts else "Both datasets have the same images, claimed by the same arms.")
    for name, dataset in zip("AB", datasets, strict=True):
        out.print(f"{name}  {dataset.rows:,} images, version {dataset.manifest.version}")


def _difference_facts(
    names: tuple[str, str],
    datasets: tuple[Table, Table],
    counts: Sequence[tuple[tuple[str, str], int]],
    parquet: str | None,
) -> Difference:
    before, after = (
        ComparedDataset(dataset=name, version=table.manifest.version, rows=table.rows)
        for name, table in zip(names, datasets, strict=True)
    )
    changes = [Change(change=c, reason=reason, images=images) for (c, reason), images in counts]
    return Difference(before=before, after=after, changes=changes, written=parquet)


@contextmanager
def _difference_writer(parquet: str | None) -> Iterator[Callable[[Any], None]]:
    import pyarrow.parquet as pq

    from curation.inspect.diff import SCHEMA

    if parquet is None:
        yield lambda batch: None
        return
    with whole_file(parquet) as part, pq.ParquetWriter(part, SCHEMA) as writer:
        yield writer.write_batch
