"""Counts the work of the stage retrieve."""

from __future__ import annotations

from curation.algorithms.kmeans.balance import CLUSTERS_AT_ONCE
from curation.inspect.cost.searches import search_size
from curation.inspect.cost.work import PART_ON_DRIVER, CostInputs, Work, rows_at_once
from curation.stages.retrieve.limits import SAMPLED_PER_PART
from curation.stages.retrieve.params import RetrieveStep
from curation.stages.retrieve.stage import ROWS_PER_PART

CLAIM = 120
"""Bytes of a claim, a match or an eligible row: ids, and a number or two."""
ROW_ON_DRIVER = 1_250
"""Bytes of the driver for an eligible row or a match, with about as many claims."""
EXCHANGES = 8
"""Exchanges and computations in parts, with those of one cap."""
CLUSTER_PLAN = 200
"""Bytes of the driver for a cluster while a target is shared out over some of them."""
CLUSTER = 40
"""Bytes of the driver for a cluster while the shares of all are known."""
CLUSTER_OF_ARM = 16
"""Bytes of the driver for a cluster in the counts and the plan of an arm."""


def retrieve_work(inputs: CostInputs) -> Work:
    """Return the work of retrieve; docs/operating.md says what the driver holds."""
    counts = inputs.counts
    matches = search_size(inputs).kept
    rows = counts.rows + matches
    return Work(
        "retrieve",
        counts.final,
        stored=counts.final * CLAIM,
        moved=(counts.images + matches + 2 * counts.final) * CLAIM,
        driver=_clusters_on_driver(inputs) + _rows_on_driver(rows),
        # benchmarks/results/growth.md: 5 µs of a core for each row and match on the driver, with the
        # claims on them, and 10 µs on workers.
        units_by_rate={"table_mb": rows * (1400 if _on_driver(rows) else 2500) / 1e6},
    )


def _on_driver(rows: float) -> bool:
    return rows <= rows_at_once(RetrieveStep)


def _rows_on_driver(rows: float) -> float:
    if _on_driver(rows):
        return ROW_ON_DRIVER * rows
    # Sampled keys have 32 bytes.
    return rows / ROWS_PER_PART * (EXCHANGES * PART_ON_DRIVER + 32 * SAMPLED_PER_PART)


def _clusters_on_driver(inputs: CostInputs) -> float:
    arms = sum("clusters" in arm.uses for arm in inputs.recipe.arms)
    if not arms:
        return 0
    finest, coarsest = inputs.recipe.cluster.levels[0], inputs.recipe.cluster.levels[-1]
    # Those of the coarsest level are all children of one root.
    at_once = max(coarsest, min(finest, CLUSTERS_AT_ONCE))
    return CLUSTER_PLAN * at_once + finest * (CLUSTER + CLUSTER_OF_ARM * arms)
