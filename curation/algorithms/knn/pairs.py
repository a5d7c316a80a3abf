"""Pairs of a query and a near image, as tables, and as candidates that number the queries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.algorithms.arrays.ids import from_ids, to_ids
from curation.algorithms.arrays.vectors import Ids
from curation.algorithms.knn.exact import Candidates

RolePairs = Sequence[tuple[str, str]]
"""Role of the queries and role of the base, for each join."""

PAIRS = pa.schema(
    [("query_id", pa.string()), ("image_id", pa.string()), ("similarity", pa.float32())]
)
JOIN_PAIRS = PAIRS.append(pa.field("role_pair", pa.int32()))
"""Pairs of several joins. `role_pair` numbers the pair of roles that was joined."""


def pairs_batch(query_ids: Ids, candidates: Candidates) -> pa.RecordBatch:
    """Return candidates as PAIRS.

    Args:
        query_ids: image id of each query, shape (queries,).
        candidates: pairs of these queries.
    """
    return pa.RecordBatch.from_arrays(
        [
            from_ids(query_ids[candidates.query]),
            from_ids(candidates.ids),
            pa.array(candidates.similarity),
        ],
        schema=PAIRS,
    )


def number_pairs(pairs: pa.RecordBatch, role_pair: npt.NDArray[np.int32]) -> pa.RecordBatch:
    """Return PAIRS as JOIN_PAIRS, with the number of the pair of roles of each, (n,)."""
    return pa.RecordBatch.from_arrays([*pairs.columns, pa.array(role_pair)], schema=JOIN_PAIRS)


def candidates_of_pairs(table: pa.Table) -> tuple[Ids, Candidates]:
    """Return PAIRS as the sorted image ids of the queries, and candidates that number them."""
    query_ids, query = np.unique(to_ids(table.column("query_id")), return_inverse=True)
    return query_ids, Candidates(
        query.astype(np.int64),
        to_ids(table.column("image_id")),
        table.column("similarity").to_numpy(),
    )
