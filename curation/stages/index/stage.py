"""index: the inverted list of every vector, by fragment, so that a grown pool only adds fragments."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from curation.algorithms.arrays.vectors import comparable_rows, vector_matrix
from curation.algorithms.knn.codebooks import lists_batch, read_codebooks
from curation.algorithms.knn.ivf import assign_lists
from curation.engine.contract import contract
from curation.engine.table import Table
from curation.engine.units import StageOutput, empty_batch
from curation.stages.index.params import IndexStep
from curation.store.fragment import Fragment


def index(
    embeddings: dict[str, Fragment], codebooks: Table, *, params: IndexStep, device: str
) -> StageOutput:
    """Assign the vectors of one fragment to lists, eligible or not.

    Yields:
        One batch of `lists`, sorted by list; without rows if the pool is searched exactly.
    """
    loaded = read_codebooks(codebooks)
    rows = embeddings[params.encoder].read(["image_id", "vector"])
    valid = np.flatnonzero(comparable_rows(rows.column("vector")))
    if loaded is None or not len(valid):
        yield empty_batch(contract("lists").arrow_schema())
        return None
    with_vector = rows.take(pa.array(valid))
    vectors = vector_matrix(with_vector.column("vector"))
    ids = with_vector.column("image_id").combine_chunks()
    yield lists_batch(valid, ids, assign_lists(vectors, loaded, device))
    return None
