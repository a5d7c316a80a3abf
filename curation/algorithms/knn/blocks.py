"""The exact join: every block of queries against every block of the base, each pair of blocks once.

A block is some fragments of one role, filled in their order. A fragment that is added later changes
only the last block, so that results of all other pairs of blocks are reused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

import numpy as np
import pyarrow as pa

from curation.algorithms.arrays.ids import from_ids, to_ids
from curation.algorithms.arrays.vectors import Ids, Vectors
from curation.algorithms.knn.exact import Base, Candidates, build_base, merge, search
from curation.algorithms.knn.read import read_vectors
from curation.engine.context import Context
from curation.engine.task_groups import split_by_rows
from curation.engine.units import StageOutput
from curation.store.fragment import Fragment

ROWS_PER_BLOCK = 100_000
"""Rows of a block. Its vectors, their hashes and the screen over them need about 1 GiB at most (1,024
dimensions)."""

RolePairs = Sequence[tuple[str, str]]
"""Role of the queries and role of the base, for each join."""

PAIRS = pa.schema(
    [("query_id", pa.string()), ("image_id", pa.string()), ("similarity", pa.float32())]
)


def blocks_of(
    fragments: Mapping[str, Fragment], rows: int = ROWS_PER_BLOCK
) -> dict[str, list[Fragment]]:
    """Group fragments into blocks, in their order.

    Args:
        fragments: fragments by name.
        rows: largest number of rows of a block. A larger fragment is a block of its own.

    Returns:
        The fragments of each block, by the name of the first.
    """
    return {block[0].name: block for block in split_by_rows(fragments.values(), rows)}


def read_block(block: Sequence[Fragment]) -> tuple[Ids, Vectors]:
    """Return the distinct images of a block that have a vector.

    Returns:
        Sorted image ids of shape (n,), and their vectors of shape (n, dim).
    """
    parts = [read_vectors(fragment) for fragment in block]
    # A fragment without any vector may not know their dimension.
    parts = [part for part in parts if len(part[0])] or parts[:1]
    ids, vectors = (np.concatenate(column) for column in zip(*parts, strict=True))
    unique, first = np.unique(ids, return_index=True)
    return unique, vectors[first]


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


def candidates_of_pairs(table: pa.Table) -> tuple[Ids, Candidates]:
    """Return PAIRS as the sorted image ids of the queries, and candidates that number them."""
    query_ids, query = np.unique(to_ids(table.column("query_id")), return_inverse=True)
    return query_ids, Candidates(
        query.astype(np.int64),
        to_ids(table.column("image_id")),
        table.column("similarity").to_numpy(),
    )


def nearest_others(
    query_ids: Ids, vectors: Vectors, base: Base, options: Mapping[str, float], device: str
) -> Candidates:
    """Return the k nearest images of each query above the floor. In a self-join no query finds itself.

    Args:
        query_ids: image id of each query, shape (n,).
        vectors: unit vectors of the queries, shape (n, dim).
        base: images to search.
        options: `k`, `floor` (smallest similarity) and `self_join` (1 or 0).
        device: `cpu` or `cuda[:n]`.
    """
    k, self_join = int(options["k"]), bool(options["self_join"])
    candidates = search(vectors, base, k + self_join, options["floor"], device)
    if not self_join:
        return candidates
    # If many images share its vector, a query may not be among its own first k + 1.
    return merge([candidates.without_self(query_ids)], k)


def search_block(
    queries: Sequence[Fragment],
    base: Sequence[Fragment],
    options: Mapping[str, float],
    device: str,
) -> StageOutput:
    """Find the nearest images of each query within one block of the base.

    Args:
        queries: block of queries.
        base: block of the base.
        options: as `nearest_others`.
        device: `cpu` or `cuda[:n]`.

    Yields:
        PAIRS.
    """
    ids, vectors = read_block(queries)
    base_ids, base_vectors = read_block(base)
    grouped = build_base(base_vectors, base_ids)
    yield pairs_batch(ids, nearest_others(ids, vectors, grouped, options, device))
    return None


def merge_blocks(parts: Sequence[Fragment], k: int) -> StageOutput:
    """Keep the k nearest images of each query of a block over all blocks of the base.

    Args:
        parts: what `search_block` found in each block of the base.
        k: neighbours of each query.

    Yields:
        PAIRS.
    """
    query_ids, candidates = candidates_of_pairs(pa.concat_tables([part.read() for part in parts]))
    yield pairs_batch(query_ids, merge([candidates], k))
    return None


def block_join(
    by_role: Mapping[str, Mapping[str, Fragment]],
    role_pairs: RolePairs,
    options: Mapping[str, float],
    context: Context,
    name: str = "blocks",
) -> Iterator[tuple[str, str, pa.Table]]:
    """Join vectors exactly.

    Args:
        by_role: fragments of vectors, by role and by name.
        role_pairs: role of the queries and role of the base, for each join.
        options: `k` and `floor`, the smallest similarity.
        context: where workers run.
        name: name of the join, shown while it runs.

    Yields:
        (role of the queries, role of the base, PAIRS), one for each block of queries.
    """
    blocks = {role: blocks_of(fragments) for role, fragments in by_role.items()}
    for query_role, base_role in role_pairs:
        left, right = blocks.get(query_role, {}), blocks.get(base_role, {})
        join_options = dict(options) | {"self_join": float(query_role == base_role)}
        label = f"{name} {query_role}-{base_role}"
        items = {
            f"{query_role}-{first}-{base_role}-{second}": {
                "queries": block,
                "base": other,
                "options": join_options,
            }
            for first, block in left.items()
            for second, other in right.items()
        }
        searched = context.compute(label, search_block, items, gpu=True)
        parts = {
            first: [searched[f"{query_role}-{first}-{base_role}-{second}"] for second in right]
            for first in left
        }
        if len(right) > 1:
            merges = {
                f"{query_role}-{first}-{base_role}": {
                    "parts": block_parts,
                    "k": int(options["k"]),
                }
                for first, block_parts in parts.items()
            }
            merged = context.compute(f"{label}, merged", merge_blocks, merges)
            parts = {first: [merged[f"{query_role}-{first}-{base_role}"]] for first in left}
        for table in chain.from_iterable(parts.values()):
            yield query_role, base_role, table.read()
