"""The exact join: every block of queries against every block of the base, each pair of blocks once.

A block is some fragments of one role, filled in their order. Vectors that an earlier run joined with
each other are old, and fill blocks of their own: their pairs are known, so no two blocks of old vectors
are compared.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from curation.algorithms.arrays.vectors import Ids, Vectors
from curation.algorithms.knn.exact import Base, Candidates, build_base, merge, search
from curation.algorithms.knn.pairs import RolePairs, number_pairs, pairs_batch
from curation.algorithms.knn.read import read_vectors
from curation.engine.context import Context
from curation.engine.task_groups import split_by_rows
from curation.engine.units import StageOutput
from curation.store.fragment import Fragment

ROWS_PER_BLOCK = 100_000
"""Rows of a block. Its vectors, their hashes and the screen over them need about 1 GiB at most (1,024
dimensions)."""


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
    role_pair: int,
    options: Mapping[str, float],
    device: str,
) -> StageOutput:
    """Find the nearest images of each query within one block of the base.

    Args:
        queries: block of queries.
        base: block of the base.
        role_pair: number of the pair of roles.
        options: as `nearest_others`.
        device: `cpu` or `cuda[:n]`.

    Yields:
        JOIN_PAIRS.
    """
    ids, vectors = read_block(queries)
    base_ids, base_vectors = read_block(base)
    grouped = build_base(base_vectors, base_ids)
    pairs = pairs_batch(ids, nearest_others(ids, vectors, grouped, options, device))
    yield number_pairs(pairs, np.full(len(pairs), role_pair, np.int32))
    return None


def search_blocks(
    by_role: Mapping[str, Mapping[str, Fragment]],
    role_pairs: RolePairs,
    options: Mapping[str, float],
    context: Context,
    name: str,
    old: Collection[tuple[str, str]] = (),
) -> list[Fragment]:
    """Find near pairs in each pair of blocks.

    Args:
        by_role: fragments of vectors, by role and by name.
        role_pairs: roles to join.
        options: `k` and `floor`, the smallest similarity.
        context: where workers run.
        name: name of the join, shown while it runs.
        old: role and content of the fragments that were joined with each other before; pairs of two of
            their vectors are left out.

    Returns:
        Work tables of JOIN_PAIRS. A query may occur in several, and must be merged.
    """
    blocks = {role: list(_blocks(role, named, old)) for role, named in by_role.items()}
    tables: list[Fragment] = []
    for number, (query_role, base_role) in enumerate(role_pairs):
        join_options = {key: options[key] for key in ("k", "floor")}
        join_options["self_join"] = float(query_role == base_role)
        items: dict[str, dict[str, Any]] = {
            f"{queries.name}-{base.name}": {
                "queries": queries.fragments,
                "base": base.fragments,
                "role_pair": number,
                "options": join_options,
            }
            for queries in blocks.get(query_role, [])
            for base in blocks.get(base_role, [])
            if queries.new or base.new
        }
        label = f"{name} {query_role}-{base_role}"
        tables += context.compute(label, search_block, items, gpu=True).values()
    return tables


class _Block(NamedTuple):
    """A block, its name, and whether its vectors are new."""

    name: str
    fragments: Sequence[Fragment]
    new: bool


def _blocks(
    role: str, fragments: Mapping[str, Fragment], old: Collection[tuple[str, str]]
) -> Iterator[_Block]:
    """Yield the blocks of old fragments and those of new ones."""
    for new in (False, True):
        some = {n: f for n, f in fragments.items() if ((role, f.content) not in old) == new}
        for first, block in blocks_of(some).items():
            yield _Block(f"{role}-{first}", block, new)
