"""dedup: components of copies, a representative each, and what copies a held-out picture."""

from __future__ import annotations

import logging
from typing import Any

from curation.engine.context import Context
from curation.engine.table import Table
from curation.engine.units import StageOutput
from curation.stages.dedup.decide import decide
from curation.stages.dedup.params import DedupParams
from curation.stages.dedup.partitioned import in_parts
from curation.stages.dedup.rows import read_rows
from curation.stages.dedup.ties import Near, agreeing_pairs
from curation.stages.dedup.write_copies import books, outcome

GIANT = 1_000
"""Images of a component that a person should look at."""

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
    """Decide who copies whom.

    A component is judged by its representative; ties of seeds and held-out pictures among themselves
    make no component, since curated and evaluation sets are not ours to thin out: of these only exact
    copies within one source are. Up to `params.rows_at_once` rows it is decided here, beyond that in
    parts on workers, with the same result.

    Yields:
        (fragment, batch of `copies`), a row for each fetched row, in order; or records of fragments
        that workers wrote.

    Returns:
        The books (pool = kept + copies + contaminated), ties by method, sizes of components with their
        weakest links, and the leaks of each held-out set.
    """
    tables = {"images": images, "neighbours": neighbours, "verified": verified}
    tables |= {"scores": scores} if params.pixels else {}
    here = images.rows <= params.rows_at_once
    stats = yield from _whole(tables, params) if here else in_parts(tables, params, context)
    assert stats is not None
    _warn(stats, params)
    return stats


def _whole(tables: dict[str, Table], params: DedupParams) -> StageOutput:
    rows = read_rows(tables["images"], tables.get("scores"))
    neighbours, verified = (list(tables[n].fragments.values()) for n in ("neighbours", "verified"))
    agreeing = agreeing_pairs(verified, params.verify) if params.verify else None
    decided = decide(rows, Near(neighbours, agreeing), params)
    yield from zip(tables["images"].fragments, outcome(rows, decided, rows.ends), strict=True)
    return books(rows, decided, params)


def _warn(stats: dict[str, Any], params: DedupParams) -> None:
    """Say what a person would not expect."""
    if stats["pool"] and stats["contaminated"] == stats["pool"]:
        logger.warning(
            "dedup: every row of the pool copies a held-out picture, and none is left. Is a held-out "
            "source the pool itself, or `dedup.held_out.at_least` too low?"
        )
    for name, told_of in stats["leaks"].items():
        if not told_of["images"]:
            logger.warning("dedup: held-out set %r has no picture; nothing is kept out", name)
    if params.chains == "join":
        for component in stats["largest_components"][:1]:
            if component["images"] > GIANT:
                logger.warning(
                    "dedup: a component has %d images, its weakest link is %s; if they are no copies, "
                    "raise the threshold or set dedup.chains: cut",
                    component["images"],
                    component.get("weakest_link"),
                )
