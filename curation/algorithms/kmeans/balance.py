"""Shares of a target: as even as the sizes allow (Vo et al. 2024, section 3.3)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]


def even_shares(sizes: Counts, target: int, keys: npt.NDArray[np.uint64]) -> Counts:
    """Return how many each cluster gives, (n,), so that Σ shares = min(target, Σ sizes).

    Every cluster gives all it has or about one common number: the cut c with Σ min(c, size) = target.
    Where that leaves a remainder, the clusters of smallest key give one more.

    Args:
        sizes: what each cluster has, (n,).
        target: how many in all.
        keys: a pseudo-random number a cluster, (n,).
    """
    parent = np.zeros(len(sizes), dtype=np.int64)
    return even_shares_by_parent(sizes, parent, np.array([target], dtype=np.int64), keys)


def even_shares_by_parent(
    sizes: Counts, parent: npt.NDArray[np.int64], targets: Counts, keys: npt.NDArray[np.uint64]
) -> Counts:
    """Return `even_shares` for the clusters of each parent at once.

    Args:
        sizes: what each cluster has, (n,).
        parent: the parent of each cluster, (n,).
        targets: how many each parent is to give, (parents,).
        keys: a pseudo-random number a cluster, (n,).
    """
    order = np.lexsort((keys, sizes, parent))
    size, of = sizes[order].astype(np.int64), parent[order]
    present, start, many = np.unique(of, return_index=True, return_counts=True)
    place = np.arange(len(size)) - np.repeat(start, many)
    before = np.cumsum(size) - size
    before -= np.repeat(before[start], many)
    left = np.repeat(many, many) - place
    target = targets[of]
    # Giving all of the smaller ones and this one's size of each larger one still fits.
    whole = before + left * size <= target
    share = np.where(whole, size, 0)
    given = np.add.reduceat(share, start) if len(start) else share
    open_ones = many - np.add.reduceat(whole.astype(np.int64), start) if len(start) else many
    rest = targets[present] - given
    cut, more = np.divmod(rest, np.maximum(open_ones, 1))
    rank = _rank_by_key(of, whole, keys[order])
    one_more = rank < np.repeat(more, many)
    share = np.where(whole, size, np.repeat(cut, many) + one_more)
    result = np.empty_like(share)
    result[order] = share
    return result


def _rank_by_key(
    of: npt.NDArray[np.int64], whole: npt.NDArray[np.bool_], keys: npt.NDArray[np.uint64]
) -> Counts:
    """Return the place of each cluster by key among those of its parent that do not give all."""
    order = np.lexsort((keys, whole, of))
    _, start, many = np.unique(of[order], return_index=True, return_counts=True)
    rank = np.empty(len(of), dtype=np.int64)
    rank[order] = np.arange(len(of)) - np.repeat(start, many)
    return rank
