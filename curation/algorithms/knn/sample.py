"""A seeded sample of the eligible pool, as work tables that every worker can read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from curation.algorithms.arrays.ids import from_ids, to_ids
from curation.algorithms.arrays.seeded_order import seeded_keys
from curation.algorithms.arrays.vectors import Ids, Vectors, vector_array, vector_matrix
from curation.algorithms.knn.read import read_vectors
from curation.engine.context import Context
from curation.engine.fragment import Fragment
from curation.engine.table import Table
from curation.engine.units import StageOutput


def eligible_rows(eligible: Table, role: str = "pool") -> int:
    """Return how many rows of a role are eligible."""
    counts = (f.record.counts.get(role, {}) for f in eligible.fragments.values())
    return sum(own.get("eligible", 0) for own in counts)


def sampled(
    eligible: Table, embeddings: Table, limit: int, seed: int, context: Context
) -> dict[str, Fragment]:
    """Return a sample of about `limit` eligible pool vectors, a work table a fragment of the pool.

    Each row takes part or not by its image and the seed alone, so that the sample does not depend on
    how the pool is split: about `limit` of them, give or take a few times its square root.
    """
    share = limit / max(eligible_rows(eligible), 1)
    vectors = embeddings.fragments
    items = {
        name: {"embeddings": vectors[name], "eligible": fragment, "share": share, "seed": seed}
        for name, fragment in eligible.fragments.items()
        if fragment.record.counts.get("pool", {}).get("eligible", 0)
    }
    return _taken(items, context)


def sampled_rows(
    vectors: Mapping[str, Fragment], limit: int, seed: int, context: Context
) -> dict[str, Fragment]:
    """Return a sample of about `limit` vectors of some fragments, as `sampled` does."""
    share = limit / max(sum(fragment.rows for fragment in vectors.values()), 1)
    items = {
        name: {"embeddings": fragment, "eligible": None, "share": share, "seed": seed}
        for name, fragment in vectors.items()
    }
    return _taken(items, context)


def _taken(items: Mapping[str, Mapping[str, Any]], context: Context) -> dict[str, Fragment]:
    records = context.compute("sample", take_sample, items)
    return {name: Fragment(context.store, record) for name, record in records.items()}


def take_sample(
    embeddings: Fragment, eligible: Fragment | None, share: float, seed: int
) -> StageOutput:
    """Write the images and vectors of one fragment that take part."""
    ids, vectors = read_vectors(embeddings, eligible)
    if share < 1:
        chosen = seeded_keys(ids, seed, "train") < np.uint64(share * 2.0**64)
        ids, vectors = ids[chosen], vectors[chosen]
    yield pa.RecordBatch.from_arrays([from_ids(ids), vector_array(vectors)], ["image_id", "vector"])
    return {"dim": int(vectors.shape[1])}


def read_sample(parts: Mapping[str, Fragment]) -> tuple[Ids, Vectors]:
    """Return the ids and vectors of a sample, in id order."""
    tables = [part.read() for part in parts.values() if part.rows]
    if not tables:
        return np.empty(0, "S32"), np.empty((0, 0), np.float16)
    ids = np.concatenate([to_ids(table.column("image_id")) for table in tables])
    vectors = np.concatenate([vector_matrix(table.column("vector")) for table in tables])
    order = np.argsort(ids, kind="stable")
    return ids[order], vectors[order]
