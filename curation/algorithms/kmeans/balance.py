"""Divides a target among clusters, as evenly as their sizes allow (Vo et al. 2024, section 3.3).

Vo et al. 2024: Automatic Data Curation for Self-Supervised Learning, https://arxiv.org/abs/2405.15613.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from curation.engine.sorted_arrays import ranks_in_runs

Counts = npt.NDArray[np.int64]


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
