"""Reads the vectors of a fragment of embeddings."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.algorithms.arrays.ids import to_ids
from curation.algorithms.arrays.vectors import (
    Ids,
    Vectors,
    comparable_rows,
    vector_matrix,
)
from curation.engine.fragment import Fragment
from curation.engine.table import Table


def read_vectors(embeddings: Fragment, eligible: Fragment | None = None) -> tuple[Ids, Vectors]:
    """Return the ids and vectors of a fragment, only those of eligible rows where they are given.

    Rows without a vector that can be compared are left out.
    """
    _, ids, vectors = read_rows(embeddings, eligible)
    return ids, vectors


def read_rows(
    embeddings: Fragment, eligible: Fragment | None = None
) -> tuple[npt.NDArray[np.int64], Ids, Vectors]:
    """Return `read_vectors`, after the row of each in the fragment."""
    table = embeddings.read(["image_id", "vector"])
    keep = comparable_rows(table.column("vector"))
    if eligible is not None:
        keep = keep & (eligible.read(["status"]).column("status").to_numpy() == "eligible")
    table = table.filter(pa.array(keep))
    ids, vectors = to_ids(table.column("image_id")), vector_matrix(table.column("vector"))
    return np.flatnonzero(keep), ids, vectors


def dimension(embeddings: Table) -> int:
    """Return the dimension of a table's vectors."""
    for fragment in embeddings.fragments.values():
        for batch in fragment.batches(["vector"], rows=1):
            return int(batch.schema.field("vector").type.byte_width) // 2
    return 0
