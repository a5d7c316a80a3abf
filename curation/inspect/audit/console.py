"""The findings in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from curation.inspect.audit.edits import EDITS, STRENGTHS
from curation.inspect.audit.page import number, share, verified
from curation.inspect.audit.thresholds import CAUTION

KEYS = {"near": "at_least", "perceptual": "max_distance"}


def tell(told: Mapping[str, Any], out: Console) -> None:
    """Print recall, ties to others, thresholds and suggestions."""
    sample, copies = told["sample"], told["copies"]
    out.print(
        f"{copies['planted']:,} copies of {sample['taken']:,} pictures planted in a pool of "
        f"{sample['pool_rows']:,} rows with pixels, seed {told['seed']}"
    )
    if sample["taken"] < sample["asked"]:
        out.print(f"{sample['asked']:,} were asked for: the pool has no more, so all are taken.")
    for reason, count in copies["refused"].items():
        out.print(f"{count:,} copies are not stored: {escape(reason)}")
    if sample["undecodable"]:
        out.print(f"{sample['undecodable']:,} sampled pictures cannot be decoded.")
    for level, count in sample["with"].items():
        if count < sample["taken"]:
            what = {"near": "vector", "perceptual": "hash"}[level]
            out.print(f"{sample['taken'] - count:,} sampled pictures have no {what}.")
    if told["not_audited"]:
        out.print(f"Not audited: {', '.join(told['not_audited'])}, which ties more than copies.")
    if told["verify"]:
        out.print(verified(told))
    out.print(_recall(told))
    out.print(_ties(told))
    for level, found in told["thresholds"].items():
        out.print(_thresholds(level, found["table"]))
        out.print(_suggestion(level, found["suggestion"]))
    out.print(f"[bold]{CAUTION}[/]")


def _recall(told: Mapping[str, Any]) -> Grid:
    names = [*told["levels"], "any"]
    headers = [*names, "unverified"] if told["verify"] else names
    grid = Grid("edit", "strength", "copies", *headers, title="Recall of planted copies")
    for column in grid.columns[2:]:
        column.justify = "right"
    rows, before = told["recall"], told["verify"] and told["verify"]["unverified_recall"]

    def cells(*place: str | int) -> list[str]:
        row, old = rows, before
        for key in place:
            row, old = row[key], old and old[key]
        found = [number(row["copies"]), *(share(row[name]) for name in names)]
        return [*found, share(old["any"])] if old else found

    for strength in STRENGTHS:
        for n, row in enumerate(rows["by_edit"]):
            if EDITS[row["edit"]].strength == strength:
                grid.add_row(row["edit"], strength, *cells("by_edit", n))
        grid.add_section()
    for n, row in enumerate(rows["by_strength"]):
        grid.add_row("all edits", row["strength"], *cells("by_strength", n))
    grid.add_row("all edits", "all", *cells("all"))
    return grid


def _ties(told: Mapping[str, Any]) -> Grid:
    headers = ("level", "ties", "originals tied", "most of one", "tied by it alone")
    grid = Grid(*headers, title="Ties of the originals to other pool pictures")
    for column in grid.columns[1:]:
        column.justify = "right"
    names = ("ties", "originals_tied", "most_of_one_original", "originals_tied_alone")
    for level, row in told["ties_to_others"].items():
        grid.add_row(level, *(number(row[name]) for name in names))
    return grid


def _thresholds(level: str, rows: list[dict[str, Any]]) -> Grid:
    key = KEYS[level]
    groups = (*STRENGTHS, "all")
    ties = ("ties_per_1000", "originals_tied_per_1000", "unexplained_originals_per_1000")
    headers = (key, *groups, "ties", "tied", "unexplained", "")
    title = f"{level}: recall, and what 1,000 originals are tied to, by threshold"
    grid = Grid(*headers, title=title)
    for column in grid.columns[:-1]:
        column.justify = "right"
    for row in rows:
        cells = [str(row[key]), *(share(row["recall"][g]) for g in groups)]
        cells += [number(row[name], 1) for name in ties]
        mark = ", ".join(row["marks"]).replace("_", "-")
        grid.add_row(*cells, mark, style="bold" if mark else None)
    return grid


def _suggestion(level: str, said: Mapping[str, Any]) -> str:
    key = KEYS[level]
    if said["value"] is None:
        return f"No {key} of {level} can be suggested. Sought was {said['rule']}."
    return (
        f"Suggested for {level}: [bold]{key} {said['value']}[/], {said['rule']}. There "
        f"{said['unexplained_originals']} of {said['originals']:,} have an unexplained tie "
        f"({said['allowed']} allowed), so the true rate is below {said['at_most_per_1000']:.1f} "
        f"per 1,000 with {100 * said['confidence']:.0f} % confidence."
    )
