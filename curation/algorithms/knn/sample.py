"""A seeded sample of vectors, as work tables that every worker can read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from curation.algorithms.arrays.ids import from_ids, to_ids
from curation.algorithms.arrays.large_arrays import zeros
from curation.algorithms.arrays.seeded_order import seeded_keys
from curation.algorithms.arrays.vectors import Bools, Ids, Vectors, vector_array, vector_matrix
from curation.algorithms.knn.read import count_vectors, read_vectors
from curation.engine.context import Context
from curation.engine.table import Table
from curation.engine.units import StageOutput
from curation.store.fragment import Fragment


def eligible_rows(eligible: Table, role: str = "pool") -> int:
    """Return how many rows of a role are eligible."""
    counts = (f.record.counts.get(role, {}) for f in eligible.fragments.values())
    return sum(count.get("eligible", 0) for count in counts)


def seed_fragments(eligible: Table) -> dict[str, tuple[Fragment, str]]:
    """Return the fragments of `eligible` with an eligible seed image, and their source, by name."""
    seeds = {}
    for name, fragment in eligible.fragments.items():
        if fragment.record.counts.get("seed", {}).get("eligible", 0):
            # All rows of a fragment have one source.
            first = next(fragment.batches(["source"], rows=1))
            seeds[name] = fragment, first.column("source")[0].as_py()
    return seeds


def sample_eligible(
    eligible: Table,
    embeddings: Table,
    limit: int,
    seed: int,
    context: Context,
    of: int | None = None,
) -> dict[str, Fragment]:
    """Sample the vectors of eligible pool images.

    The image id and the seed alone decide whether a row is in the sample, so that the sample does not
    depend on how the pool is cut into fragments. Its size is `limit`, give or take a few times its
    square root.

    Args:
        eligible: the table `eligible`.
        embeddings: a table of embeddings.
        limit: expected number of vectors.
        seed: seed of the sample.
        context: where workers run.
        of: number of rows of which `limit` would be sampled; by default all.

    Returns:
        A work table for each fragment of the pool, by the fragment's name.
    """
    share = _share(limit, of or eligible_rows(eligible))
    vectors = embeddings.fragments
    items = {
        name: {"embeddings": vectors[name], "eligible": fragment, "share": share, "seed": seed}
        for name, fragment in eligible.fragments.items()
        if fragment.record.counts.get("pool", {}).get("eligible", 0)
    }
    return _compute_samples(items, context)


def sample_fragments(
    vectors: Mapping[str, Fragment],
    limit: int,
    seed: int,
    context: Context,
    of: int | None = None,
) -> dict[str, Fragment]:
    """Sample all vectors of some fragments, as `sample_eligible` does.

    Args:
        vectors: fragments of embeddings by name.
        limit: expected number of vectors.
        seed: seed of the sample.
        context: where workers run.
        of: number of vectors of which `limit` would be sampled; by default all.

    Returns:
        A work table for each fragment, by the fragment's name.
    """
    share = _share(limit, of or count_vectors(vectors.values()))
    items = {
        name: {"embeddings": fragment, "eligible": None, "share": share, "seed": seed}
        for name, fragment in vectors.items()
    }
    return _compute_samples(items, context)


def _share(limit: int, rows: int) -> float:
    # Without the bound, every added row would change the share, and so the memos of all fragments.
    return min(1.0, limit / max(rows, 1))


def _compute_samples(
    items: Mapping[str, Mapping[str, Any]], context: Context
) -> dict[str, Fragment]:
    return context.compute("sample", take_sample, items)


def take_sample(
    embeddings: Fragment, eligible: Fragment | None, share: float, seed: int
) -> StageOutput:
    """Write the sampled images and vectors of one fragment.

    Args:
        embeddings: fragment of a table of embeddings.
        eligible: the fragment of `eligible` with the same rows; None samples from all rows.
        share: expected share of the vectors.
        seed: seed of the sample.

    Yields:
        A batch with the columns `image_id` and `vector`.

    Returns:
        `dim`, the dimension of the vectors.
    """
    ids, vectors = read_vectors(embeddings, eligible)
    sampled = is_sampled(ids, share, seed)
    ids, vectors = ids[sampled], vectors[sampled]
    yield pa.RecordBatch.from_arrays([from_ids(ids), vector_array(vectors)], ["image_id", "vector"])
    return {"dim": int(vectors.shape[1])}


def is_sampled(ids: Ids, share: float, seed: int) -> Bools:
    """Return which images a sample of this share has, (n,). A larger share has all of a smaller one."""
    if share >= 1:
        return np.ones(len(ids), bool)
    return np.asarray(seeded_keys(ids, seed, "train") < np.uint64(share * 2.0**64), bool)


def read_sample(parts: Mapping[str, Fragment]) -> tuple[Ids, Vectors]:
    """Return the ids (n,) and vectors (n, dim) of a sample, sorted by id.

    A sample may be larger than memory: each part goes to its places, and the vectors may be in a file.
    """
    read = [part for part in parts.values() if part.rows]
    if not read:
        return np.empty(0, "S32"), np.empty((0, 0), np.float16)
    ids = np.concatenate([to_ids(part.read(["image_id"]).column("image_id")) for part in read])
    order = np.argsort(ids, kind="stable")
    places = np.empty(len(ids), np.int64)
    places[order] = np.arange(len(ids))
    vectors, start = np.empty((0, 0), np.float16), 0
    for part in read:
        of_part = vector_matrix(part.read(["vector"]).column("vector"))
        if not start:
            vectors = zeros((len(ids), of_part.shape[1]), of_part.dtype)
        vectors[places[start : start + len(of_part)]] = of_part
        start += len(of_part)
    return ids[order], vectors
