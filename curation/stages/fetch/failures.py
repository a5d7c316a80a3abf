"""Rows that failed: which of them a run asks for again, and how many are too many."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from curation.engine.stage import Outcomes
from curation.errors import Detail
from curation.media.web.failure_reasons import DROPPED, TRANSIENT, is_called
from curation.stages.fetch.params import FetchStep
from curation.terminal import number_beside

_SHOWN = 5
_HOUR_S = 3600.0


def outcomes_to_retry(
    params: FetchStep, outcomes: Outcomes, age_s: float, requested: Sequence[str]
) -> set[str]:
    """Return the reasons whose rows are asked for again although nothing changed.

    Args:
        params: of the stage.
        outcomes: rows by `ok` or reason, as they were committed last.
        age_s: seconds since then.
        requested: reasons that the run was asked to try again, or names of several.
    """
    names = {*requested, *(name for name, _ in _exceeded(params, outcomes))}
    if params.retry_after_h is not None and age_s >= params.retry_after_h * _HOUR_S:
        names.add(TRANSIENT)
    return {reason for reason in outcomes for name in names if is_called(reason, name)}


def too_many_failures(params: FetchStep, outcomes: Outcomes) -> list[Detail]:
    """Return the bounds of `fail_over` that are exceeded: a larger share of the rows failed."""
    fix = (
        "The images that were fetched are kept. Run the same command again once the cause is mended: "
        "it asks for these rows again. Or raise the bound"
    )
    return [
        Detail(
            f"{_count(outcomes, name):,} of {_requested_rows(outcomes):,} rows failed "
            f"({_largest(outcomes, name)}), a share of "
            f"{number_beside(_share(outcomes, name), [bound])}; the bound is {bound:g}",
            f"fetch.fail_over.{name}",
            _share(outcomes, name),
            fix=fix,
        )
        for name, bound in _exceeded(params, outcomes)
    ]


def _exceeded(params: FetchStep, outcomes: Outcomes) -> Iterator[tuple[str, float]]:
    for name, bound in params.fail_over.items():
        if _share(outcomes, name) > bound:
            yield name, bound


def _share(outcomes: Outcomes, name: str) -> float:
    return _count(outcomes, name) / max(_requested_rows(outcomes), 1)


def _count(outcomes: Outcomes, name: str) -> int:
    return sum(rows for reason, rows in outcomes.items() if is_called(reason, name))


def _requested_rows(outcomes: Outcomes) -> int:
    """Return the number of rows that a host or a file was asked for."""
    return sum(rows for reason, rows in outcomes.items() if reason not in DROPPED)


def _largest(outcomes: Outcomes, name: str) -> str:
    reasons = sorted(
        (-rows, reason) for reason, rows in outcomes.items() if is_called(reason, name)
    )
    return ", ".join(f"{reason} {-rows:,}" for rows, reason in reasons[:_SHOWN])
