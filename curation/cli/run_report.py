"""The report of a run, written by the command line and by the jobs alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from curation.progress import shown_wait
from curation.recipe import Recipe
from curation.store.store import DATASET

if TYPE_CHECKING:
    from curation.runner.step import StepResult
    from curation.store.store import Store


def report_of_run(
    results: Sequence[StepResult], recipe: Recipe, store: Store, run: str | None
) -> str | None:
    """Return the path of the report of a run that made a dataset, within the store.

    It is written, unless a run that had nothing to do left one that is there. Another run of the recipe
    may have ended meanwhile, so the run is named.

    Args:
        results: what the steps of the run did.
        recipe: of the run.
        store: where it ran.
        run: its name.
    """
    if not any(result.step.tables == (DATASET,) for result in results):
        return None
    from curation.inspect.lineage import trace
    from curation.inspect.report.place import finished_report

    up_to_date = all(result.up_to_date for result in results)
    path = finished_report(recipe, trace(recipe, store, run), store) if up_to_date else None
    if path is None:
        from curation.inspect.report.build import write_report

        with shown_wait("Writing the report …"):
            path = write_report(recipe, store, run)
    return path
