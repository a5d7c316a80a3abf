"""Failed rows of a step: which of them are asked for again, and how many are too many."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import datetime

from curation.engine.compute import Stale
from curation.errors import BoundsError, Detail, InvalidValueError, RecipeError
from curation.flow import Step
from curation.media.web.failure_reasons import check_failure
from curation.runner.work import StepContext
from curation.store.manifest import Manifest, count_outcomes
from curation.store.step_log import Entry

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""


def check_retry(steps: Sequence[Step], names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of failures that a run was asked to try again.

    Raises:
        RecipeError: one is no failure, or none of the steps fetches.
    """
    try:
        checked = tuple(check_failure(name) for name in names)
    except InvalidValueError as error:
        raise RecipeError(*(detail.below("--retry") for detail in error.details)) from error
    if checked and all(step.stage.retry is None for step in steps):
        stages = ", ".join(step.name for step in steps)
        raise RecipeError(
            Detail(
                f"--retry has an effect on the stage fetch alone, and this run has {stages}",
                "--retry",
                list(names),
                fix="Leave it out, or run the stage fetch too",
            )
        )
    return checked


def stale_part(step: Step, last: Entry, within: StepContext) -> Stale:
    """Return what a step computes again although nothing that decides its rows changed.

    Args:
        step: the step.
        last: what it committed last.
        within: the run, and what it was asked to compute again.
    """
    if within.run.again.force:
        return Stale(everything=True)
    if step.stage.retry is None or not last.tables:
        return Stale()
    committed = (within.store.manifest(table, c.version) for table, c in last.tables.items())
    outcomes = count_outcomes(m.counts for m in committed if m is not None)
    age_s = time.time() - datetime.fromisoformat(last.time).timestamp() if last.time else 0.0
    retry = step.stage.retry.load()
    return Stale(outcomes=frozenset(retry(step.params, outcomes, age_s, within.run.again.retry)))


def check_outcomes(step: Step, manifests: Iterable[Manifest]) -> None:
    """Check that no more rows of a step failed than its parameters allow.

    Raises:
        BoundsError: more did.
    """
    if step.stage.check is not None:
        check = step.stage.check.load()
        details: list[Detail] = check(step.params, count_outcomes(m.counts for m in manifests))
        if details:
            raise BoundsError(*details)
