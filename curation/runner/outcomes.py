"""Failed rows of a step: which of them are asked for again, and how many are too many."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from curation.engine.compute import Stale
from curation.errors import BoundsError, Detail, InvalidValueError, RecipeError
from curation.flow import Step
from curation.media.web.failure_reasons import check_failure
from curation.runner.work import StepContext
from curation.store.manifest import FragmentRecord, Manifest, count_outcomes, record_path
from curation.store.run_log import Recompute
from curation.store.step_log import Entry
from curation.store.storage.base import FileStatus
from curation.store.store import Store, in_parallel

EXECUTION_ONLY = True
"""Nothing here decides a row, so no pin of a stage depends on it."""


def asked_again(steps: Sequence[Step], force: bool, names: Sequence[str]) -> Recompute:
    """Return what a run was asked to compute again.

    Args:
        steps: its steps.
        force: whether it computes again everything that they write.
        names: of failures whose rows it asks for again.

    Raises:
        RecipeError: a name is that of no failure, or has no effect on these steps or beside `force`.
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
    if checked and force:
        message = "it has no effect beside --force, which asks for every row again"
        raise RecipeError(Detail(message, "--retry", list(names), fix="Leave one of the two out"))
    return Recompute(force, checked)


def stale_part(step: Step, last: Entry, within: StepContext) -> Stale:
    """Return what a step computes again although nothing that decides its rows changed.

    Args:
        step: the step.
        last: what it committed last.
        within: the run, and what it was asked to compute again.
    """
    if within.run.recompute.force:
        return Stale(everything=True)
    if step.stage.retry is None:
        return Stale()
    retry, requested = step.stage.retry.load(), within.run.recompute.retry
    read = (within.store.manifest(table, c.version) for table, c in last.tables.items())
    committed = [manifest for manifest in read if manifest is not None]
    outcomes = count_outcomes(m.counts for m in committed)
    if requested:
        outcomes = {**dict.fromkeys(_outcomes_of_versions(step, within.store), 0), **outcomes}
    records = [record for manifest in committed for record in manifest.fragments]
    return Stale(
        outcomes=frozenset(retry(step.params, outcomes, 0.0, requested)),
        memos=frozenset(_memos_of_old(records, partial(retry, step.params), within.store)),
    )


def _outcomes_of_versions(step: Step, store: Store) -> set[str]:
    """Return the outcomes of rows of all versions of the tables of a step.

    Fragments of any of them may be reused, such as those of a list that was left out for a while.
    """
    versions = [(str(table), v) for table in step.tables for v in store.versions(table)]
    headers = in_parallel(lambda version: store.header(*version), versions)
    return set(count_outcomes(header["counts"] for header in headers if header is not None))


def _memos_of_old(
    records: Iterable[FragmentRecord], retry: Callable[..., set[str]], store: Store
) -> Iterator[str]:
    """Yield the memos of fragments with rows that failed so long ago that they are asked for again.

    A commit may be younger than its fragments, of which most are those of earlier versions. A record is
    written again whenever its rows are asked for again, while its files stay if they are the same.
    """
    listed: dict[str, dict[str, FileStatus]] = {}

    def status_of(path: str) -> FileStatus | None:
        folder = path.rpartition("/")[0]
        if folder not in listed:
            listed[folder] = dict(store.storage.files(folder))
        return listed[folder].get(path)

    for record in records:
        outcomes = count_outcomes([record.counts])
        at_once = retry(outcomes, 0.0, ())
        if retry(outcomes, float("inf"), ()) - at_once:
            paths = [record_path(record.table_dir, record.memo), *(f.path for f in record.files)]
            status = next(filter(None, map(status_of, paths)), None)
            age_s = 0.0 if status is None else max(time.time() - status.modified, 0.0)
            if retry(outcomes, age_s, ()) - at_once:
                yield record.memo


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
