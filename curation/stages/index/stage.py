"""index: every vector in its inverted list, fragment by fragment, so that a longer pool only adds."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from curation.algorithms.arrays.vectors import comparable_rows, vector_matrix
from curation.algorithms.knn.codebooks import lists_batch, read_codebooks
from curation.algorithms.knn.ivf import assign_lists
from curation.engine.contract import contract
from curation.engine.fragment import Fragment
from curation.engine.table import Table
from curation.engine.units import Rows, empty_batch
from curation.stages.index.params import IndexStep


def index(
    embeddings: dict[str, Fragment], codebooks: Table, *, params: IndexStep, device: str
) -> Rows:
    """Put the vectors of one fragment into lists, whatever their role or copies.

    Yields:
        One batch of `lists`, in the order of lists; without rows where the search is exact.
    """
    books = read_codebooks(codebooks)
    rows = embeddings[params.encoder].read(["image_id", "vector"])
    valid = np.flatnonzero(comparable_rows(rows.column("vector")))
    if books is None or not len(valid):
        yield empty_batch(contract("lists").arrow_schema())
        return None
    kept = rows.take(pa.array(valid))
    vectors = vector_matrix(kept.column("vector"))
    ids = kept.column("image_id").combine_chunks()
    yield lists_batch(valid, ids, assign_lists(vectors, books, device))
    return None
