"""dedup: components of copies with their representatives, and contamination by held-out images."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from curation.engine.context import Context
from curation.engine.table import Table
from curation.engine.units import StageOutput
from curation.errors import Detail, StoreError
from curation.media.web.failure_reasons import FORGOTTEN
from curation.stages.dedup.decide import decide
from curation.stages.dedup.edges import VerifiedNeighbours, agreeing_pairs
from curation.stages.dedup.fetched_rows import held_out_outcomes, read_fetched_rows
from curation.stages.dedup.params import DedupParams
from curation.stages.dedup.partitioned import dedup_in_parts
from curation.stages.dedup.write_copies import copies_batches, copies_stats

LARGE_COMPONENT = 1_000
"""Images of a component above which a warning is logged."""
_NO_LOSS = ("duplicate_url", "duplicate_pair", "removed", FORGOTTEN)
"""Reasons of rows without an image that another row has, or that is not to be compared any more."""

logger = logging.getLogger(__name__)


def dedup(
    images: Table,
    scores: Table,
    neighbours: Table,
    verified: Table,
    *,
    params: DedupParams,
    context: Context,
) -> StageOutput:
    """Decide which rows are copies of which, and which copy a held-out image.

    Seed and held-out images form no components among themselves, because curated and evaluation sets
    are not to be thinned out. Only rows of one source with the same bytes are copies there. Up to
    `params.rows_at_once` rows the decision runs on the driver; above that it runs in parts on workers,
    with the same result.

    Yields:
        (fragment, batch of `copies`), one row for each fetched row, in order; or records of fragments
        that workers wrote.

    Returns:
        Counts of rows (pool = kept + copies + contaminated), edges by method (a pair that both of its
        images found counts twice), sizes of components with the weakest links of the largest, and the
        contamination by each held-out set.

    Raises:
        StoreError: no row of a held-out set has an image, so its copies could not be found.
    """
    of_sets = _rows_of_sets(images) if params.held_out else {}
    tables = {"images": images, "neighbours": neighbours, "verified": verified}
    tables |= {"scores": scores} if params.pixels else {}
    if images.rows <= params.rows_at_once:
        stats = yield from _dedup_on_driver(tables, params)
    else:
        stats = yield from dedup_in_parts(tables, params, context)
    assert stats is not None
    for name, report in stats["contamination"].items():
        report |= of_sets[name]
    _warn(stats, params)
    return stats


def _dedup_on_driver(tables: dict[str, Table], params: DedupParams) -> StageOutput:
    rows = read_fetched_rows(tables["images"], tables.get("scores"))
    neighbours, verified = (list(tables[n].fragments.values()) for n in ("neighbours", "verified"))
    agreeing = agreeing_pairs(verified, params.verify) if params.verify else None
    decision = decide(rows, VerifiedNeighbours(neighbours, agreeing), params)
    batches = copies_batches(rows, decision, rows.fragment_bounds)
    yield from zip(tables["images"].fragments, batches, strict=True)
    return copies_stats(rows, decision, params)


def _rows_of_sets(images: Table) -> dict[str, dict[str, Any]]:
    """Return the number of rows of each held-out set, and those without an image by reason.

    Raises:
        StoreError: no row of a set has an image.
    """
    of_sets = {}
    for name, outcomes in held_out_outcomes(images).items():
        missing = {r: rows for r, rows in outcomes.items() if r not in ("ok", *_NO_LOSS)}
        if missing and "ok" not in outcomes:
            raise StoreError(
                Detail(
                    f"no row of held-out set {name!r} has an image ({_listed(missing)}), so copies of "
                    "its images would stay in the dataset",
                    "dedup.held_out",
                    fix="Mend the source. Or remove it, and the dataset is not decontaminated of it",
                )
            )
        of_sets[name] = {"rows": sum(outcomes.values()), "without_image": missing}
    return of_sets


def _listed(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {rows:,}" for reason, rows in reasons.items())


def _warn(stats: dict[str, Any], params: DedupParams) -> None:
    """Log results that a user would not expect."""
    if stats["pool"] and stats["contaminated"] == stats["pool"]:
        logger.warning(
            "dedup: every row of the pool copies a held-out image, so none is left. Does a held-out "
            "source contain the pool itself, or is `dedup.held_out.at_least` too low?"
        )
    for name, report in stats["contamination"].items():
        if missing := report["without_image"]:
            logger.warning(
                "dedup: %d of %d rows of held-out set %r have no image (%s), so copies of these are "
                "not found",
                *(sum(missing.values()), report["rows"], name, _listed(missing)),
            )
        elif not report["images"]:
            logger.warning(
                "dedup: held-out set %r has no image, so no row is contaminated by it", name
            )
    if params.chains == "join":
        for component in stats["largest_components"][:1]:
            if component["images"] > LARGE_COMPONENT:
                logger.warning(
                    "dedup: a component has %d images. Its weakest link is %s. If its images are not "
                    "copies, raise the threshold of that method, or set dedup.chains: cut.",
                    component["images"],
                    component.get("weakest_link"),
                )
