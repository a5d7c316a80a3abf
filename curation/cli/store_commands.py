"""The commands that list what a store holds: runs and versions."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Column
from rich.table import Table as Grid

from curation.cli.app import STORE_PANEL, AsJson, StorePath, app, out, print_facts
from curation.cli.completion import complete_table
from curation.cli.existing_store import existing_store
from curation.cli.facts.files import Version
from curation.cli.facts.runs import Run


@app.command(rich_help_panel=STORE_PANEL)
def runs(store: StorePath, as_json: AsJson = False) -> None:
    """List the runs of a store, the latest first."""
    from curation.store.run_log import read_runs

    opened = existing_store(store)
    listed = [
        Run(
            run=record.run,
            recipe=record.recipe,
            fingerprint=record.fingerprint,
            started=record.started,
            seconds=record.seconds,
            state=record.current_state,
            stages=list(record.stages),
            rows=dict(record.rows),
            tables=dict(record.tables),
            restored_from=record.restored_from,
        )
        for record in read_runs(opened)
    ]
    if as_json:
        print_facts(listed)
        return
    named = Column("run", no_wrap=True)
    grid = Grid(named, "recipe", "started (UTC)", "seconds", "state", "stages", "rows of the last")
    for run in listed:
        stages = run.stages
        span = stages[0] if len(stages) == 1 else f"{stages[0]} – {stages[-1]}" if stages else "–"
        last = f"{run.rows[stages[-1]]:,}" if stages else "–"
        grid.add_row(
            run.run,
            run.recipe,
            _in_two_words(run.started),
            f"{run.seconds:,.1f}",
            f"{run.state}{' (restored)' if run.restored_from else ''}",
            span,
            last,
        )
    out.print(grid if listed else f"No run yet in {opened.uri}.")


@app.command(rich_help_panel=STORE_PANEL)
def versions(
    table: Annotated[
        str, typer.Argument(metavar="TABLE", help="Name of a table.", autocompletion=complete_table)
    ],
    store: StorePath,
    as_json: AsJson = False,
) -> None:
    """List the versions of a table, the latest first, and the runs that have each."""
    from curation.engine.contract import contract
    from curation.store.run_log import read_runs
    from curation.store.store import in_parallel

    opened = existing_store(store)
    names = opened.versions(table)
    if not names:
        # Refuses a name that no table has.
        contract(table)
    headers = in_parallel(lambda version: opened.header(table, version), names)
    records = list(read_runs(opened))
    listed = [
        Version(
            version=name,
            created=header["created"],
            stage=header["stage"],
            rows=header["rows"],
            fragments=header["fragments"],
            runs=[record.run for record in records if record.tables.get(table) == name],
        )
        for name, header in zip(names, headers, strict=True)
        if header is not None
    ]
    if as_json:
        print_facts(listed)
        return
    named, latest = Column("version", no_wrap=True), Column("latest run", no_wrap=True)
    grid = Grid(named, "created (UTC)", "stage", "rows", "fragments", latest, "runs")
    for version in listed:
        grid.add_row(
            version.version,
            _in_two_words(version.created),
            version.stage,
            f"{version.rows:,}",
            f"{version.fragments:,}",
            version.runs[0] if version.runs else "–",
            str(len(version.runs)),
        )
    readable = " that can be read" if names else ""
    out.print(grid if listed else f"The store has no version of table {table}{readable}.")


def _in_two_words(time: str) -> str:
    """Return a time (ISO 8601, UTC) so that a narrow column breaks it and does not cut it."""
    return time.replace("T", " ").removesuffix("+00:00")
