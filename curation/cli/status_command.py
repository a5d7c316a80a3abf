"""The command that shows what the runs of a store do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from curation.activity import format_duration
from curation.cli.app import STORE_PANEL, AsJson, StorePath, app, out, print_facts
from curation.cli.completion import complete_run
from curation.cli.existing_store import existing_store
from curation.cli.facts.runs import RunStatus as RunStatusFacts
from curation.cli.outcomes import PASSED
from curation.terminal import styled

if TYPE_CHECKING:
    from curation.activity import Progress
    from curation.inspect.status import RunStatus

_COLOURS = {"failed": "red", "stopped": "red", "silent": "yellow", "waiting": "yellow"}
_SHOWN_REASONS = 8
_NO_FAILURES = PASSED | {"held_out"}
"""Outcomes of rows that did not fail; `select` leaves all rows of held-out sets out."""


@app.command(rich_help_panel=STORE_PANEL)
def status(
    store: StorePath,
    run: Annotated[
        str | None,
        typer.Option(
            "--run",
            help="Show this run alone: a tag, or the beginning of its name.",
            autocompletion=complete_run,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the runs that work on a store: stage, rows, rate, time left, failures and leases.

    If no run is at work, the latest one is shown. Nothing is written.
    """
    from curation.inspect.status import read_status

    opened = existing_store(store)
    statuses = read_status(opened, run)
    if as_json:
        print_facts([RunStatusFacts.model_validate(each.to_json()) for each in statuses])
        return
    for number, each in enumerate(statuses):
        if number:
            out.print("")
        _print(each)
    if not statuses:
        out.print(f"No run yet in {opened.uri}.")


def _print(status: RunStatus) -> None:
    record = status.record
    colour = _COLOURS.get(status.state, "bold")
    took = format_duration(status.seconds)
    out.print(
        styled(f"run       {record.run} of {record.recipe}: ", (status.state, colour), f", {took}")
    )
    if record.holder is not None:
        out.print(f"process   {record.holder.pid} on {record.holder.host}")
    if status.state == "silent":
        out.print(f"          no sign of life for {format_duration(status.silent_s or 0)}")
    if record.stages:
        rows = (f"{stage} {record.rows[stage]:,}" for stage in record.stages)
        out.print(f"done      {', '.join(rows)} rows")
    if record.progress is not None:
        out.print(f"stage     {_describe(record.progress)}")
    if status.waiting_stages and status.record.state == "running":
        out.print(f"to do     {', '.join(status.waiting_stages)}")
    for line in failures(status.outcomes()):
        out.print(f"failures  {line}")
    if status.lease is not None:
        lease = status.lease
        whose = "this run" if lease.run == record.run else f"run {lease.run}"
        out.print(
            f"lease     {whose} since {lease.since} (process {lease.process} on {lease.host})"
        )
    if record.error:
        out.print(f"error     {record.error}")


def _describe(progress: Progress) -> str:
    """Return the stage, and how far it is, in one line."""
    parts = [f"{progress.stage} for {format_duration(progress.stage_seconds)}"]
    if progress.counts is not None:
        counts = progress.counts
        part = f"{progress.part}: " if progress.part != progress.stage else ""
        parts.append(f"{part}{counts.done:,} of {counts.total:,} {counts.unit}")
        if progress.per_second:
            parts.append(f"{progress.per_second:,.1f} {counts.unit}/s")
        if progress.seconds_left is not None:
            parts.append(f"{format_duration(progress.seconds_left)} left")
    return " · ".join(parts)


def failures(by_stage: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """Yield a line with the reasons of each stage, the most frequent first."""
    shown: Mapping[str, int] = {}
    for stage, outcomes in by_stage.items():
        failed = {reason: rows for reason, rows in outcomes.items() if reason not in _NO_FAILURES}
        # Later stages hand on what failed before.
        new = {reason: rows for reason, rows in failed.items() if shown.get(reason) != rows}
        shown = {**shown, **failed}
        by_count = sorted(new.items(), key=lambda item: (-item[1], item[0]))
        if by_count:
            listed = ", ".join(f"{rows:,} {reason}" for reason, rows in by_count[:_SHOWN_REASONS])
            more = len(by_count) - _SHOWN_REASONS
            yield f"{stage}: {listed}{f' and {more} other reasons' if more > 0 else ''}"
