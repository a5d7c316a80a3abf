"""What a step did, in a few lines: its rows, why rows were dropped, and what was no row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from curation.runner.observer import RunObserver
from curation.stages.ingest.sources.notices import describe
from curation.store.manifest import count_outcomes
from curation.terminal import Terminal

if TYPE_CHECKING:
    from curation.runner.step import StepResult
    from curation.store.manifest import Manifest

_HINTS = {
    "outside_folder": "a path or a link leads out of the folder of the source; `follow_links: true` of "
    "the source allows links",
    "failed_to_download": "img2dataset did not get them; `error_message` in their `metadata` says why",
    "failed_to_resize": "img2dataset could not use them; `error_message` in their `metadata` says why",
    "bad_row": "their `metadata` says file, place and cause",
}
"""What to do about a reason for which rows are dropped."""
PASSED = {"ok", "eligible"}
"""Outcomes of rows that were not dropped; `select` calls them eligible."""
_INDENT = " " * 14


class OutcomePrinter(RunObserver):
    """Prints the result of each step, and the reasons for dropped rows where they first appear."""

    def __init__(self, console: Terminal, with_rows: bool = True) -> None:
        self._console, self._with_rows = console, with_rows
        self._dropped: dict[str, int] = {}

    def step_ended(self, result: StepResult) -> None:
        """Print the result of one step."""
        if self._with_rows:
            self._print_rows(result)
        for manifest in result.manifests:
            self._print_dropped(manifest)
            print_notices(manifest, self._console, _INDENT)

    def _print_rows(self, result: StepResult) -> None:
        if result.up_to_date:
            work = "up to date"
        else:
            reused = f", {result.reused} reused" if result.reused else ""
            work = f"{result.computed} computed{reused}"
        self._console.print(
            f"  {result.step.name:<11} {result.rows:>10,} rows  {result.seconds:6.1f} s  {work}"
        )

    def _print_dropped(self, manifest: Manifest) -> None:
        outcomes = count_outcomes([manifest.counts])
        dropped = {reason: rows for reason, rows in outcomes.items() if reason not in PASSED}
        for reason, rows in dropped.items():
            if self._dropped.get(reason) != rows:
                hint = f": {_HINTS[reason]}" if reason in _HINTS else ""
                self._console.print(f"{_INDENT}{rows:,} {reason}{hint}", soft_wrap=True)
        self._dropped |= dropped


def print_notices(manifest: Manifest, console: Terminal, indent: str = "") -> None:
    """Print what the sources of a table hold besides its rows."""
    for source, notices in manifest.stats.get("notices", {}).items():
        for line in describe(notices):
            console.print(f"{indent}{source}: {line}", soft_wrap=True)
