"""quantise: the codebooks of the index of pool vectors, or none if the pool is searched exactly."""

from __future__ import annotations

import logging
from typing import Any

from curation.algorithms.knn.choice import choose_search, rounded_size
from curation.algorithms.knn.codebooks import codebooks_batch
from curation.algorithms.knn.ivf import sample_size, train
from curation.algorithms.knn.kept_codebooks import (
    COMPARED_IMAGES,
    keep_codebooks,
    load_codebooks,
)
from curation.algorithms.knn.read import dimension
from curation.algorithms.knn.sample import (
    eligible_rows,
    read_sample,
    sample_eligible,
    seed_fragments,
)
from curation.engine.context import Context
from curation.engine.contract import contract
from curation.engine.table import Table
from curation.engine.units import StageOutput, empty_batch
from curation.stages.quantise.params import QuantiseStep

logger = logging.getLogger(__name__)


def quantise(
    eligible: Table, embeddings: dict[str, Table], *, params: QuantiseStep, context: Context
) -> StageOutput:
    """Choose how the pool is searched, and train the codebooks if it is searched by an index.

    Codebooks that an earlier run of the step trained, for the same encoder and parameters, are reused
    until the pool reaches the next power of four, so that a grown pool only adds fragments of `lists`.
    A pool of which less than a quarter was in that one gets codebooks of its own.

    Yields:
        ("all", batch of `codebooks`), without rows for exact search.

    Returns:
        `index`, the kind of search; `multiplications`, the cost of exact and of indexed search that the
        choice depends on; for an index also `nlist` and `training_vectors` (0 if reused).
    """
    vectors = embeddings[params.encoder]
    pool, dim = eligible_rows(eligible), dimension(vectors)
    seeds = sum(
        fragment.record.counts["seed"]["eligible"]
        for fragment, source in seed_fragments(eligible).values()
        if source in params.seed_sets
    )
    choice = choose_search(params.index, seeds, pool, dim)
    yield "all", empty_batch(contract("codebooks").arrow_schema())
    stats: dict[str, Any] = {
        "index": choice.index,
        "multiplications": {"exact": choice.exact, "indexed": choice.indexed},
    }
    if choice.index == "exact":
        return stats
    key = {
        "encoder": vectors.manifest.stats.get("encoder"),
        "dim": dim,
        "scale": rounded_size(pool),
        "index": [choice.index, choice.nlist, params.index.subquantizers, params.seed],
    }
    compared = sample_eligible(
        eligible, vectors, COMPARED_IMAGES, params.seed, context, of=rounded_size(pool)
    )
    saved = load_codebooks("codebooks", key, compared, context)
    if saved is not None:
        logger.info("quantise: the codebooks of an earlier run are reused")
        for batch in saved.batches():
            yield "all", batch
        return stats | {"nlist": choice.nlist, "training_vectors": 0}
    parts = sample_eligible(eligible, vectors, sample_size(choice.nlist), params.seed, context)
    _, sample = read_sample(parts)
    batch = codebooks_batch(
        train(sample, choice.index, choice.nlist, params.index.subquantizers, params.seed)
    )
    keep_codebooks("codebooks", key, batch, compared, context)
    yield "all", batch
    return stats | {"nlist": choice.nlist, "training_vectors": len(sample)}
