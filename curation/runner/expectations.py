"""Whether a dataset is what its recipe expects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from curation.engine.table import open_table
from curation.errors import ExpectationError
from curation.flow import Step
from curation.recipe.expect import ExpectParams
from curation.runner.work import StepContext
from curation.store.manifest import Manifest
from curation.store.run_log import read_runs
from curation.store.store import DATASET, Store
from curation.terminal import number_beside

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""


def check_expectations(
    step: Step, expect: ExpectParams, dataset: Manifest, claims: str, within: StepContext
) -> None:
    """Check that a dataset is what the recipe expects.

    Args:
        step: the step that made it.
        expect: what is expected.
        dataset: its manifest.
        claims: the version of `claims` that it was made from. Its manifest may name an earlier one with
            the same rows, whose arms requested something else.
        within: the run.

    Raises:
        ExpectationError: it is not; the message says what is wrong.
    """
    problems = list(_row_problems(expect, dataset.rows))
    is_empty = bool(problems) and not dataset.rows
    if is_empty or expect.filled is not None or expect.arms:
        # A manifest that cannot be read is no composition without arms.
        composition = open_table(within.store, "claims", claims).manifest.stats["composition"]
        problems += map(_describe, composition) if is_empty else ()
        problems += _arm_problems(expect, composition)
    if expect.change is not None:
        problems += _change_problems(expect.change, dataset.rows, _rows_before(step, within.store))
    if problems:
        raise ExpectationError(
            f"The dataset of {step.recipe!r} is not what the recipe expects:\n  "
            + "\n  ".join(problems)
            + f"\nThe run {within.run.record.run} is kept, but its dataset is not the latest.",
            fix=f"Look at it with `--run {within.run.record.run}`, mend the cause, or change `expect`",
        )


def _row_problems(expect: ExpectParams, rows: int) -> Iterator[str]:
    bounds = expect.rows
    if rows < bounds.at_least:
        accepts = "" if rows else " (write 0 to accept a dataset without images)"
        yield f"{rows:,} images; expect.rows.at_least is {bounds.at_least:,}{accepts}"
    if bounds.at_most is not None and rows > bounds.at_most:
        yield f"{rows:,} images; expect.rows.at_most is {bounds.at_most:,}"


def _describe(arm: Mapping[str, Any]) -> str:
    """Describe where the images of an arm were lost."""
    return (
        f"arm {arm['arm']!r}: {arm['requested']:,} claims requested, {arm['available']:,} available, "
        f"{arm['retrieved']:,} retrieved, {arm['capped']:,} dropped by caps"
    )


def _arm_problems(expect: ExpectParams, composition: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for arm in composition:
        name, requested = arm["arm"], arm["requested"]
        place = f"arms.{name}" if name in expect.arms else "filled"
        bound = expect.arms.get(name, expect.filled)
        if bound and not requested:
            yield (
                f"arm {name!r} requests no image, since nothing is left that it could take them for "
                f"or from; expect.{place} is {bound:g}"
            )
        elif bound and (share := arm["final"] / requested) < bound:
            yield (
                f"arm {name!r} has {arm['final']:,} of {requested:,} requested images, a share of "
                f"{number_beside(share, [bound])}; expect.{place} is {bound:g}"
            )


def _change_problems(bound: float, rows: int, before: int | None) -> Iterator[str]:
    # Shares are compared, because a product would be rounded: 0.07 · 100 is more than 7.
    if before is not None and (abs(rows - before) / before > bound if before else rows):
        yield f"{rows:,} images after {before:,} in the latest finished run; expect.change is {bound:g}"


def _rows_before(step: Step, store: Store) -> int | None:
    """Return the rows of the dataset of the latest finished run of the recipe whose manifest is left.

    None if no such run has finished yet.
    """
    for record in read_runs(store):
        if record.state == "finished" and record.recipe == step.recipe and DATASET in record.tables:
            manifest = store.manifest(DATASET, record.tables[DATASET])
            if manifest is not None:
                return manifest.rows
    return None
