"""The exact join: every block of queries against every block of the base, each pair computed once.

A block is some fragments of one role, filled in their order, so that a fragment added later changes
the last block alone and all other pairs are found computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from curation.algorithms.arrays.ids import from_ids, to_ids
from curation.algorithms.arrays.vectors import Ids, Vectors
from curation.algorithms.knn.exact import Base, Candidates, build_base, merge, search
from curation.algorithms.knn.read import read_vectors
from curation.engine.context import Context
from curation.engine.fragment import Fragment
from curation.engine.units import StageOutput

BLOCK = 100_000
"""Rows of a block; with its vectors, its hashes and a screen over them it takes about 1 GiB at most
(1,024 dimensions)."""

T = TypeVar("T")
PAIRS = pa.schema(
    [("query_id", pa.string()), ("image_id", pa.string()), ("similarity", pa.float32())]
)


def rows_of(fragment: Any) -> int:
    """Return the rows of a fragment."""
    return int(fragment.rows)


def blocks_of(
    fragments: Mapping[str, T], rows: int = BLOCK, size: Callable[[T], int] = rows_of
) -> dict[str, list[T]]:
    """Return fragments in blocks of at most `rows` (or of one fragment), by the first one's name."""
    blocks: dict[str, list[T]] = {}
    last: list[T] = []
    filled = rows
    for name, fragment in fragments.items():
        if not blocks or filled + size(fragment) > rows:
            blocks[name] = last = []
            filled = 0
        last.append(fragment)
        filled += size(fragment)
    return blocks


def read_block(block: Sequence[Fragment]) -> tuple[Ids, Vectors]:
    """Return the distinct ids of a block, sorted, and their vectors; images without one left out."""
    parts = [read_vectors(fragment) for fragment in block]
    # A fragment without a single vector may not even know their length.
    parts = [part for part in parts if len(part[0])] or parts[:1]
    ids, vectors = (np.concatenate(column) for column in zip(*parts, strict=True))
    unique, first = np.unique(ids, return_index=True)
    return unique, vectors[first]


def pairs_batch(queries: Ids, found: Candidates) -> pa.RecordBatch:
    """Return candidates with the ids of their queries as rows of a work table."""
    return pa.RecordBatch.from_arrays(
        [from_ids(queries[found.query]), from_ids(found.ids), pa.array(found.similarity)],
        schema=PAIRS,
    )


def pairs_of(table: pa.Table) -> tuple[Ids, Candidates]:
    """Read back `pairs_batch`: the sorted ids of the queries, and the candidates that number them."""
    queries, query = np.unique(to_ids(table.column("query_id")), return_inverse=True)
    return queries, Candidates(
        query.astype(np.int64),
        to_ids(table.column("image_id")),
        table.column("similarity").to_numpy(),
    )


def nearest_others(
    queries: Ids, vectors: Vectors, base: Base, options: Mapping[str, float], device: str
) -> Candidates:
    """Return the k nearest above the floor of each query; in a self-join none finds itself."""
    k, own_role = int(options["k"]), bool(options["own_role"])
    found = search(vectors, base, k + own_role, options["floor"], device)
    if not own_role:
        return found
    other = queries[found.query] != found.ids
    # Of many images with one vector, a query need not be among the first k + 1.
    return merge([Candidates(found.query[other], found.ids[other], found.similarity[other])], k)


def search_block(
    queries: Sequence[Fragment],
    base: Sequence[Fragment],
    options: Mapping[str, float],
    device: str,
) -> StageOutput:
    """Find the nearest of each query within one block of the base."""
    ids, vectors = read_block(queries)
    base_ids, base_vectors = read_block(base)
    built = build_base(base_vectors, base_ids)
    yield pairs_batch(ids, nearest_others(ids, vectors, built, options, device))
    return None


def merge_blocks(parts: Sequence[Fragment], k: int) -> StageOutput:
    """Keep the k nearest of what a block of queries found in every block of the base."""
    queries, found = pairs_of(pa.concat_tables([part.read() for part in parts]))
    yield pairs_batch(queries, merge([found], k))
    return None


def block_join(
    by_role: Mapping[str, Mapping[str, Fragment]],
    sought: Sequence[tuple[str, str]],
    options: Mapping[str, float],
    context: Context,
    name: str = "blocks",
) -> Iterator[tuple[str, str, pa.Table]]:
    """Yield (role of queries, role of base, pairs) of an exact join, by blocks of queries.

    Args:
        by_role: fragments of vectors by name, by role.
        sought: which roles meet.
        options: k and floor.
        context: where workers are.
        name: of this join, shown while it runs.
    """
    blocks = {role: blocks_of(fragments) for role, fragments in by_role.items()}
    for query_role, base_role in sought:
        left, right = blocks.get(query_role, {}), blocks.get(base_role, {})
        mine = dict(options) | {"own_role": float(query_role == base_role)}
        label = f"{name} {query_role}-{base_role}"
        items = {
            f"{query_role}-{first}-{base_role}-{second}": {
                "queries": block,
                "base": other,
                "options": mine,
            }
            for first, block in left.items()
            for second, other in right.items()
        }
        found = context.compute(label, search_block, items, gpu=True)
        parts = {
            first: [found[f"{query_role}-{first}-{base_role}-{second}"] for second in right]
            for first in left
        }
        if len(right) > 1:
            merges = {
                f"{query_role}-{first}-{base_role}": {
                    "parts": [Fragment(context.store, record) for record in own],
                    "k": int(options["k"]),
                }
                for first, own in parts.items()
            }
            merged = context.compute(f"{label}, merged", merge_blocks, merges)
            parts = {first: [merged[f"{query_role}-{first}-{base_role}"]] for first in left}
        for own in parts.values():
            for record in own:
                yield query_role, base_role, Fragment(context.store, record).read()
