"""Divides a target among clusters, as evenly as their sizes allow (Vo et al. 2024, section 3.3).

Vo et al. 2024: Automatic Data Curation for Self-Supervised Learning, https://arxiv.org/abs/2405.15613.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from curation.engine.sorted_arrays import ranks_in_runs, stable_order

Counts = npt.NDArray[np.int64]
CLUSTERS_AT_ONCE = 1_000_000
"""Clusters that are summed up, or get their shares, at once, at about 200 bytes each."""


def even_shares(sizes: Counts, target: int, keys: npt.NDArray[np.uint64]) -> Counts:
    """Return how many members each cluster gives, so that the sum is min(target, Σ sizes).

    There is a number c with Σ min(c, size) ≈ target. A cluster smaller than c gives all its members, a
    larger one about c. If that leaves a remainder, the clusters with the smallest keys give one more.

    Args:
        sizes: number of members of each cluster, (n,).
        target: number of members wanted from all clusters together.
        keys: a pseudo-random number for each cluster, (n,).

    Returns:
        Shares, (n,).
    """
    parent = np.zeros(len(sizes), dtype=np.int64)
    return even_shares_by_parent(sizes, parent, np.array([target], dtype=np.int64), keys)


def even_shares_by_parent(
    sizes: Counts, parent: npt.NDArray[np.int64], targets: Counts, keys: npt.NDArray[np.uint64]
) -> Counts:
    """Return `even_shares` of the children of each parent, for all parents at once.

    Args:
        sizes: number of members of each cluster, (n,).
        parent: parent of each cluster, (n,).
        targets: number of members wanted from the children of each parent, (parents,).
        keys: a pseudo-random number for each cluster, (n,).

    Returns:
        Shares, (n,).
    """
    order = np.lexsort((keys, sizes, parent))
    size, parent_of = sizes[order].astype(np.int64), parent[order]
    parents, start, siblings = np.unique(parent_of, return_index=True, return_counts=True)
    smaller = np.cumsum(size) - size
    smaller -= np.repeat(smaller[start], siblings)
    remaining = np.repeat(siblings, siblings) - ranks_in_runs(parent_of)
    # A cluster gives all its members if the target still allows as many of each larger sibling.
    gives_all = smaller + remaining * size <= targets[parent_of]
    share = np.where(gives_all, size, 0)
    members_given = np.add.reduceat(share, start) if len(start) else share
    exhausted = np.add.reduceat(gives_all.astype(np.int64), start) if len(start) else siblings
    cut, remainder = np.divmod(
        targets[parents] - members_given, np.maximum(siblings - exhausted, 1)
    )
    rank = _rank_by_key(parent_of, gives_all, keys[order])
    one_more = rank < np.repeat(remainder, siblings)
    share = np.where(gives_all, size, np.repeat(cut, siblings) + one_more)
    result = np.empty_like(share)
    result[order] = share
    return result


def even_shares_in_blocks(
    sizes: Counts,
    parent: npt.NDArray[np.integer],
    targets: Counts,
    keys_of: Callable[[Counts], npt.NDArray[np.uint64]],
) -> Counts:
    """Return `even_shares_by_parent`, computed for some parents at a time, as none depends on others.

    Besides the arguments and the result, 12 bytes of each cluster are in memory.

    Args:
        sizes: number of members of each cluster, (n,).
        parent: parent of each cluster, (n,).
        targets: number of members wanted from the children of each parent, (parents,).
        keys_of: returns a pseudo-random number for each of some clusters, by their numbers.

    Returns:
        Shares, (n,).
    """
    by_parent = stable_order(parent)
    children = np.bincount(parent, minlength=len(targets))
    stops = np.cumsum(children)
    shares = np.empty(len(sizes), np.int64)
    for first, last in _parents_at_once(stops):
        rows = by_parent[stops[first] - children[first] : stops[last - 1]]
        siblings = parent[rows].astype(np.int64) - first
        shares[rows] = even_shares_by_parent(
            sizes[rows], siblings, targets[first:last], keys_of(rows)
        )
    return shares


def _parents_at_once(stops: Counts) -> Iterator[tuple[int, int]]:
    """Yield ranges (first, stop) of parents with about CLUSTERS_AT_ONCE children, or one parent.

    Args:
        stops: number of children of each parent and of those before it, (parents,).
    """
    block = np.maximum(stops - 1, 0) // CLUSTERS_AT_ONCE
    first = 0
    for last in [*(np.flatnonzero(np.diff(block)) + 1).tolist(), len(stops)]:
        if last > first:
            yield first, last
        first = last


def sum_by_parent(sizes: Counts, parent: npt.NDArray[np.integer], parents: int) -> Counts:
    """Return the sum of the sizes of the children of each parent, (parents,).

    Args:
        sizes: of each cluster, (n,).
        parent: of each cluster, (n,).
        parents: number of parents.
    """
    sums = np.zeros(parents, np.int64)
    for start in range(0, len(sizes), CLUSTERS_AT_ONCE):
        part = slice(start, start + CLUSTERS_AT_ONCE)
        # Sums of integers below 2^53 have no rounding in float64.
        sums += np.bincount(parent[part], weights=sizes[part], minlength=parents).astype(np.int64)
    return sums


def _rank_by_key(
    parent_of: npt.NDArray[np.int64],
    gives_all: npt.NDArray[np.bool_],
    keys: npt.NDArray[np.uint64],
) -> Counts:
    """Return the rank of each cluster by key among its siblings that do not give all members."""
    order = np.lexsort((keys, gives_all, parent_of))
    rank = np.empty(len(parent_of), dtype=np.int64)
    rank[order] = ranks_in_runs(parent_of[order])
    return rank
