"""Prints the summary of an audit in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table as Grid

from curation.inspect.audit.edits import EDITS, STRENGTHS
from curation.inspect.audit.page import describe_verification
from curation.inspect.audit.thresholds import CAUTION
from curation.inspect.html import format_number, format_percent

THRESHOLD_KEYS = {"near": "at_least", "perceptual": "max_distance"}


def print_audit(summary: Mapping[str, Any], out: Console) -> None:
    """Print recall, pairs, thresholds and suggestions from the summary of an audit."""
    for line in _describe_sample(summary):
        out.print(line)
    if summary["verify"]:
        out.print(describe_verification(summary))
    out.print(_recall_grid(summary))
    out.print(_pairs_grid(summary))
    for level, thresholds in summary["thresholds"].items():
        out.print(_thresholds_grid(level, thresholds["table"]))
        out.print(_describe_suggestion(level, thresholds["suggestion"]))
    out.print(CAUTION, style="bold")


def _describe_sample(summary: Mapping[str, Any]) -> Iterator[str]:
    sample, copies = summary["sample"], summary["copies"]
    yield (
        f"Made {copies['injected']:,} edited copies of {sample['taken']:,} originals, sampled from "
        f"{sample['pool_rows']:,} pool rows with pixels (seed {summary['seed']})."
    )
    if sample["taken"] < sample["requested"]:
        yield f"The sample should have {sample['requested']:,} originals, but the pool has no more."
    for reason, count in copies["refused"].items():
        yield f"fetch would not store {count:,} of the copies: {reason}."
    if sample["undecodable"]:
        yield f"{sample['undecodable']:,} originals cannot be decoded."
    for level, count in sample["with"].items():
        if count < sample["taken"]:
            missing = {"near": "vector", "perceptual": "hash"}[level]
            yield f"{sample['taken'] - count:,} originals have no {missing}."
    if summary["not_audited"]:
        levels = ", ".join(summary["not_audited"])
        yield f"Not audited: {levels}, which also links images that are not copies."


def _recall_grid(summary: Mapping[str, Any]) -> Grid:
    names = [*summary["levels"], "any"]
    headers = [*names, "unverified"] if summary["verify"] else names
    grid = Grid("edit", "strength", "copies", *headers, title="Recall of edited copies")
    for column in grid.columns[2:]:
        column.justify = "right"
    recall = summary["recall"]
    unverified = summary["verify"]["unverified_recall"] if summary["verify"] else None

    def cells(*keys: str | int) -> list[str]:
        row, before = recall, unverified
        for key in keys:
            row, before = row[key], before and before[key]
        values = [format_number(row["copies"]), *(format_percent(row[name]) for name in names)]
        return [*values, format_percent(before["any"])] if before else values

    for strength in STRENGTHS:
        for n, row in enumerate(recall["by_edit"]):
            if EDITS[row["edit"]].strength == strength:
                grid.add_row(row["edit"], strength, *cells("by_edit", n))
        grid.add_section()
    for n, row in enumerate(recall["by_strength"]):
        grid.add_row("all edits", row["strength"], *cells("by_strength", n))
    grid.add_row("all edits", "all", *cells("all"))
    return grid


def _pairs_grid(summary: Mapping[str, Any]) -> Grid:
    headers = ("level", "pairs", "originals in pairs", "most of one", "originals by it alone")
    grid = Grid(*headers, title="Pairs of an original and another pool image")
    for column in grid.columns[1:]:
        column.justify = "right"
    names = ("pairs", "originals_linked", "most_of_one_original", "originals_linked_alone")
    for level, row in summary["pairs_with_others"].items():
        grid.add_row(level, *(format_number(row[name]) for name in names))
    return grid


def _thresholds_grid(level: str, rows: list[dict[str, Any]]) -> Grid:
    key = THRESHOLD_KEYS[level]
    groups = (*STRENGTHS, "all")
    counts = ("pairs_per_1000", "originals_linked_per_1000", "unexplained_originals_per_1000")
    headers = (key, *groups, "pairs", "originals", "unexplained", "")
    title = f"{level}: recall, and counts per 1,000 originals, by threshold"
    grid = Grid(*headers, title=title)
    for column in grid.columns[:-1]:
        column.justify = "right"
    for row in rows:
        cells = [str(row[key]), *(format_percent(row["recall"][group]) for group in groups)]
        cells += [format_number(row[name], 1) for name in counts]
        marks = ", ".join(row["marks"]).replace("_", "-")
        grid.add_row(*cells, marks, style="bold" if marks else None)
    return grid


def _describe_suggestion(level: str, suggestion: Mapping[str, Any]) -> str:
    key = THRESHOLD_KEYS[level]
    if suggestion["value"] is None:
        return f"No {key} can be suggested for {level}. The rule is {suggestion['rule']}."
    return (
        f"Suggested for {level}: {key} {suggestion['value']}. This is {suggestion['rule']}. "
        f"{suggestion['unexplained_originals']} of {suggestion['originals']:,} originals have an "
        f"unexplained pair there ({suggestion['allowed']} are allowed), so the true rate is below "
        f"{suggestion['at_most_per_1000']:.1f} per 1,000 with {100 * suggestion['confidence']:.0f} % "
        "confidence."
    )
