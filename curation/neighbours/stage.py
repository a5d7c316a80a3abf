"""neighbours: near pairs of images by the copy encoder. No cut-off but the floor."""

from __future__ import annotations

import pyarrow as pa

from curation.fragment import Fragment, Table
from curation.knn.join import scan_join
from curation.params import NeighboursStep
from curation.table import contract
from curation.units import Context, Rows, empty_batch

# (role of the query, role of the base): where copies are sought.
SOUGHT = (("pool", "pool"), ("held_out", "pool"), ("held_out", "seed"), ("seed", "pool"))


def neighbours(
    images: Table, embeddings: dict[str, Table], *, params: NeighboursStep, context: Context
) -> Rows:
    """Find the k nearest of each image, role by role, exactly.

    Args:
        images: gives the role of each fragment.
        embeddings: the table of the copy encoder, or none, which gives no neighbours.
        params: encoder, k and floor.

    Yields:
        (part, batch of `neighbours`).
    """
    schema = contract("neighbours").arrow_schema()
    yield "all", empty_batch(schema)
    if params.encoder is None:
        return {"search": "none"}
    by_role = _fragments_by_role(images, embeddings[params.encoder])
    for query_role, base_role in SOUGHT:
        options = {"k": params.k, "at_least": params.floor, "own_role": query_role == base_role}
        queries, base = by_role.get(query_role, {}), by_role.get(base_role, {})
        found = scan_join(f"{query_role}-{base_role}", queries, base, options, context)
        for name in sorted(found):
            for batch in found[name].to_batches():
                yield "all", _rows(batch, query_role, base_role)
    return {"search": "exact", "recall": 1.0}


def _fragments_by_role(images: Table, embeddings: Table) -> dict[str, dict[str, Fragment]]:
    """Return the fragments of vectors by role; a fragment comes from one source."""
    vectors = embeddings.fragments
    by_role: dict[str, dict[str, Fragment]] = {}
    for name, fragment in images.fragments.items():
        for role in fragment.record.books:
            by_role.setdefault(role, {})[name] = vectors[name]
    return by_role


def _rows(batch: pa.RecordBatch, query_role: str, base_role: str) -> pa.RecordBatch:
    rows = batch.num_rows
    return pa.RecordBatch.from_arrays(
        [
            pa.array([query_role] * rows, pa.string()),
            batch.column("query_id"),
            pa.array([base_role] * rows, pa.string()),
            batch.column("image_id"),
            batch.column("similarity"),
            batch.column("rank"),
        ],
        names=["role_a", "image_a", "role_b", "image_b", "similarity", "rank"],
    )
