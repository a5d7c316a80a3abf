"""Reads the vectors of a fragment of embeddings."""

from __future__ import annotations

from collections.abc import Iterable

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
from curation.engine.table import Table
from curation.store.fragment import Fragment
from curation.store.manifest import count_outcomes


def read_vectors(embeddings: Fragment, eligible: Fragment | None = None) -> tuple[Ids, Vectors]:
    """Return the image ids (n,) and vectors (n, dim) of a fragment.

    Rows without a vector that can be compared are left out.

    Args:
        embeddings: fragment of a table of embeddings.
        eligible: the fragment of `eligible` with the same rows. With it, only eligible rows are
            returned.
    """
    _, ids, vectors = read_numbered_vectors(embeddings, eligible)
    return ids, vectors


def read_numbered_vectors(
    embeddings: Fragment, eligible: Fragment | None = None
) -> tuple[npt.NDArray[np.int64], Ids, Vectors]:
    """Return the row numbers in the fragment (n,), then the ids and vectors of `read_vectors`."""
    table = embeddings.read(["image_id", "vector"])
    keep = comparable_rows(table.column("vector"))
    if eligible is not None:
        keep = keep & (eligible.read(["status"]).column("status").to_numpy() == "eligible")
    table = table.filter(pa.array(keep))
    ids, vectors = to_ids(table.column("image_id")), vector_matrix(table.column("vector"))
    return np.flatnonzero(keep), ids, vectors


def count_vectors(embeddings: Iterable[Fragment]) -> int:
    """Return how many rows of some fragments of embeddings have a vector."""
    return count_outcomes(fragment.record.counts for fragment in embeddings).get("ok", 0)


def dimension(embeddings: Table) -> int:
    """Return the dimension of a table's vectors; 0 for a table without rows."""
    for fragment in embeddings.fragments.values():
        for batch in fragment.batches(["vector"], rows=1):
            return int(batch.schema.field("vector").type.byte_width) // 2
    return 0
