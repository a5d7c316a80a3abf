"""index: the inverted list of every vector, by fragment, so that a grown pool only adds fragments."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from curation.algorithms.arrays.vectors import comparable_rows, vector_matrix
from curation.algorithms.knn.codebooks import lists_batch, read_codebooks
from curation.algorithms.knn.ivf import Codebooks, assign_lists
from curation.engine.contract import contract
from curation.engine.table import Table
from curation.engine.units import StageOutput, empty_batch
from curation.stages.index.params import IndexStep
from curation.store.fragment import Fragment


def index(
    embeddings: Mapping[str, Mapping[str, Fragment]],
    codebooks: Table,
    *,
    params: IndexStep,
    device: str,
) -> StageOutput:
    """Assign the vectors of some fragments to lists, eligible or not.

    Args:
        embeddings: by fragment and encoder.
        codebooks: the table `codebooks`.
        params: of the stage.
        device: `cpu` or `cuda[:n]`.

    Yields:
        The name of each fragment, and one batch of `lists`, sorted by list; without rows if the pool is
        searched exactly.
    """
    loaded = read_codebooks(codebooks)
    for name, of_fragment in embeddings.items():
        yield name, _lists(of_fragment[params.encoder], loaded, device)
    return None


def _lists(fragment: Fragment, codebooks: Codebooks | None, device: str) -> pa.RecordBatch:
    rows = fragment.read(["image_id", "vector"])
    valid = np.flatnonzero(comparable_rows(rows.column("vector")))
    if codebooks is None or not len(valid):
        return empty_batch(contract("lists").arrow_schema())
    with_vector = rows.take(pa.array(valid))
    vectors = vector_matrix(with_vector.column("vector"))
    ids = with_vector.column("image_id").combine_chunks()
    return lists_batch(valid, ids, assign_lists(vectors, codebooks, device))
