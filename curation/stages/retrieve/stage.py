"""retrieve: the images that each arm claims, with the evidence of each claim."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any

from curation.engine.context import Context
from curation.engine.exchange_runner import InMemory, OnWorkers
from curation.engine.table import Table
from curation.engine.units import StageOutput
from curation.stages.retrieve.balance import apply_arm_limits, apply_balance, describe_target
from curation.stages.retrieve.limits import ClaimedParts
from curation.stages.retrieve.params import RetrieveStep
from curation.stages.retrieve.retrieval import Retrieval

ROWS_PER_PART = 500_000
"""Rows and matches that a worker decides at once: some hundred MB."""

logger = logging.getLogger(__name__)


def retrieve(  # noqa: PLR0913  one argument per table
    images: Table,
    eligible: Table,
    centroids: Table,
    assignments: Table,
    matches: Table,
    *,
    params: RetrieveStep,
    context: Context,
) -> StageOutput:
    """Run every arm, balance their claims, and keep all claims on an image.

    Up to `params.rows_at_once` rows this happens on the driver; above that it happens in parts on
    workers, with the same result. The driver then holds counts by cluster and what it knows of files.

    Yields:
        (fragment of the row that represents the image, batch of `claims`), or records of fragments that
        workers wrote.

    Returns:
        `composition`, one row per arm: number of rows of its seed set, eligible images among them,
        claims that its parameters request, claims that are available, claims retrieved, different
        images among these, claims dropped by a cap of the arm or of `balance`, final claims,
        different images among these, and the shortfall (requested - retrieved, at least 0). `total`:
        all final claims, and the different images among them. `target`, if `balance` has one: number
        of images requested, final images, and the shortfall.
    """
    tables = {"images": images, "eligible": eligible, "assignments": assignments}
    rows = eligible.rows + matches.rows
    on_driver = rows <= params.rows_at_once
    run = Retrieval(
        tables | {"centroids": centroids, "matches": matches},
        params,
        InMemory() if on_driver else OnWorkers(context.private()),
        1 if on_driver else -(-rows // ROWS_PER_PART),
        sys.maxsize if on_driver else ROWS_PER_PART,
    )
    claimed, available = run.claim()
    retrieved, limited = apply_arm_limits(claimed, params, run.apply)
    final = apply_balance(limited, params, run.apply)
    stats = _stats(run, available, retrieved, final)
    _warn(stats)
    yield from run.write(final, None if on_driver else context.private())
    run.runner.delete()
    return stats


def _stats(
    run: Retrieval,
    available: Mapping[str, int],
    retrieved: Mapping[str, Mapping[str, int]],
    final: ClaimedParts,
) -> dict[str, Any]:
    """Return the measurements of the stage.

    Args:
        run: the inputs of the stage.
        available: number of claims that are possible, by arm.
        retrieved: claims before caps, as `apply_arm_limits` returns them.
        final: the claims that are left.
    """
    left, images = final.count_by("claims"), final.count("images")
    left_images = final.count_by("unique")
    composition = []
    for arm, counts, plan in zip(run.params.arms, run.counts, run.plans, strict=True):
        row = {
            "seed_rows": counts.seed_rows,
            "seed_images": counts.seed_images,
            "requested": plan.requested,
            "available": available[arm.name],
            "retrieved": retrieved["claims"][arm.name],
            "unique": retrieved["unique"][arm.name],
            "capped": retrieved["claims"][arm.name] - left[arm.name],
            "final": left[arm.name],
            "final_images": left_images[arm.name],
            "shortfall": max(plan.requested - retrieved["claims"][arm.name], 0),
        }
        names = {"arm": arm.name, "seed_set": arm.seeds, "strategy": arm.strategy}
        composition.append(names | row)
    stats: dict[str, Any] = {
        "composition": composition,
        "total": {"claims": sum(row["final"] for row in composition), "images": images},
    }
    requested = run.params.balance.target
    if requested is not None:
        shortfall = max(requested - images, 0)
        stats["target"] = {"requested": requested, "final": images, "shortfall": shortfall}
    return stats


def _warn(stats: Mapping[str, Any]) -> None:
    """Warn about arms that retrieve nothing, and about a target that is not reached."""
    for arm in stats["composition"]:
        if not arm["retrieved"]:
            logger.warning(
                "retrieve: arm %r finds nothing: %d rows in its seed set, %d of them eligible images, "
                "%d claims requested, %d available",
                *(arm[n] for n in ("arm", "seed_rows", "seed_images", "requested", "available")),
            )
    target = stats.get("target", {})
    if target.get("shortfall"):
        logger.warning("retrieve: balance.target: %s", describe_target(target))
