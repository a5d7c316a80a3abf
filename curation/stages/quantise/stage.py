"""quantise: the codebooks of the index, or none where exact search is the better choice."""

from __future__ import annotations

import logging
from typing import Any

from curation.algorithms.knn.choice import choose_search, rounded_size
from curation.algorithms.knn.codebooks import codebooks_batch
from curation.algorithms.knn.ivf import sample_size, train
from curation.algorithms.knn.read import dimension
from curation.algorithms.knn.sample import eligible_rows, read_sample, sample_eligible
from curation.engine.context import Context
from curation.engine.contract import contract
from curation.engine.table import Table
from curation.engine.units import Rows, empty_batch
from curation.stages.quantise.params import QuantiseStep

logger = logging.getLogger(__name__)


def quantise(
    eligible: Table, embeddings: dict[str, Table], *, params: QuantiseStep, context: Context
) -> Rows:
    """Choose how the pool is searched, and train the codebooks where it is by an index.

    Codebooks that this store trained before, for the same encoder and parameters, are taken again
    until the pool has grown fourfold, so that a longer pool only adds lists.

    Yields:
        ("all", batch of `codebooks`), without rows for exact search.

    Returns:
        The choice, and what it was made of.
    """
    vectors = embeddings[params.encoder]
    pool, seeds = eligible_rows(eligible, "pool"), eligible_rows(eligible, "seed")
    dim = dimension(vectors)
    choice = choose_search(params.index, params.k, seeds, pool, dim)
    yield "all", empty_batch(contract("codebooks").arrow_schema())
    said: dict[str, Any] = {
        "index": choice.index,
        "multiplications": {"exact": choice.exact, "indexed": choice.indexed},
    }
    if choice.index == "exact":
        return said
    key = {
        "encoder": vectors.manifest.stats.get("encoder"),
        "dim": dim,
        "scale": rounded_size(pool),
        "index": [choice.index, choice.nlist, params.index.subquantizers, params.seed],
    }
    kept = context.recall("codebooks", key)
    if kept is not None:
        logger.info("quantise: codebooks of an earlier run serve again")
        for batch in kept.batches():
            yield "all", batch
        return said | {"nlist": choice.nlist, "training_vectors": 0}
    parts = sample_eligible(eligible, vectors, sample_size(choice.nlist), params.seed, context)
    _, sample = read_sample(parts)
    batch = codebooks_batch(
        train(sample, choice.index, choice.nlist, params.index.subquantizers, params.seed)
    )
    context.remember("codebooks", key, batch)
    yield "all", batch
    return said | {"nlist": choice.nlist, "training_vectors": len(sample)}
