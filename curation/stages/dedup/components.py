"""Connected components and who stands for each: exact, and independent of any order of rows."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import minimum_spanning_tree

from curation.algorithms.arrays.vectors import Ids
from curation.algorithms.components.union_find import Forest
from curation.stages.dedup.rows import Ints
from curation.stages.dedup.ties import METHODS, Ties, both_ways

LARGEST = 10
SIZES = (1, 2, 3, 4, 5, 9, 17, 33, 65, 129, 1025)


@dataclass(frozen=True)
class Components:
    """For each numbered image the smallest number and the representative of its component, (n,)."""

    smallest: Ints
    representative: Ints


def find_components(ties: Ties, rank: Ints, chains: str) -> Components:
    """Join tied images; the one of the lowest rank stands for a component.

    Args:
        ties: among len(rank) images.
        rank: of each image, all different.
        chains: `cut` leaves with a representative only the images tied to itself, as greedy clustering
            by stars does (the rest form components of their own); `join` leaves whole components.
    """
    forest = Forest(len(rank))
    forest.join(ties.left, ties.right)
    label = forest.labels().astype(np.int64)
    representative = _first_of(label, rank)
    if chains == "cut":
        representative = _stars(label, representative, ties, rank)
        label = _first_of(representative, np.arange(len(rank)))
    return Components(label, representative)


def _first_of(label: Ints, rank: Ints) -> Ints:
    """Return for each image the one of the lowest rank among those with its label."""
    best = np.full(len(label), np.iinfo(np.int64).max)
    np.minimum.at(best, label, rank)
    by_rank = np.empty(len(rank), np.int64)
    by_rank[rank] = np.arange(len(rank))
    found: Ints = by_rank[best[label]]
    return found


def _stars(label: Ints, representative: Ints, ties: Ties, rank: Ints) -> Ints:
    """Return the representative of each image when only direct ties count: by falling rank, each image
    that is not yet tied to one becomes a representative and takes its ties that are not."""
    every = both_ways(ties)
    order = np.argsort(every.left, kind="stable")
    right = every.right[order]
    start = np.searchsorted(every.left[order], np.arange(len(label) + 1))
    direct = np.arange(len(label)) == representative
    direct[every.left[every.right == representative[every.left]]] = True
    # Only components with a member that is not tied to its representative change.
    broken = np.unique(label[~direct])
    members = np.flatnonzero(np.isin(label, broken))
    found = representative.copy()
    found[members] = -1
    for image in members[np.argsort(rank[members])].tolist():
        if found[image] < 0:
            found[image] = image
            near = right[start[image] : start[image + 1]]
            found[near[found[near] < 0]] = image
    return found


def told(components: Components, ties: Ties, ids: Ids) -> dict[str, Any]:
    """Return how components are sized, and of the largest the weakest link that holds each together.

    The link is the weakest of the tree of strongest ties: without it the component falls apart.
    """
    label, size = np.unique(components.smallest, return_counts=True)
    largest = np.lexsort((ids[label], -size))[:LARGEST]
    groups = np.searchsorted(SIZES, size, "right") - 1
    count = np.bincount(groups, minlength=len(SIZES))
    names = [str(low) if high == low + 1 else f"{low}–{high - 1}" for low, high in pairwise(SIZES)]
    return {
        "components": len(label),
        "sizes": dict(zip([*names, f"{SIZES[-1]} or more"], count.tolist(), strict=True)),
        "largest_components": [
            {"component_id": ids[label[n]].decode(), "images": int(size[n])}
            | _weakest(components.smallest, int(label[n]), ties, ids)
            for n in largest
            if size[n] > 1
        ],
    }


def _weakest(smallest: Ints, label: int, ties: Ties, ids: Ids) -> dict[str, Any]:
    own = ties.take(smallest[ties.left] == label)
    inside = own.take(smallest[own.right] == label)
    if not len(inside):
        return {}
    nodes, places = np.unique([inside.left, inside.right], return_inverse=True)
    left, right = places.reshape(2, -1)
    # Surer methods first: a tree of least weight takes them before any other.
    weight = 1.0 + inside.method + (1 - inside.strength.astype(np.float64)) / 4
    order = np.lexsort((right, left, weight))
    pairs = np.stack([np.minimum(left, right), np.maximum(left, right)], 1)[order]
    _, first = np.unique(pairs, axis=0, return_index=True)
    order = order[first]
    shape = (len(nodes), len(nodes))
    graph = coo_array((weight[order], (pairs[first, 0], pairs[first, 1])), shape=shape).tocsr()
    tree = minimum_spanning_tree(graph).tocoo()
    worst = int(np.argmax(tree.data))
    a, b = nodes[tree.row[worst]], nodes[tree.col[worst]]
    method = int(tree.data[worst] - 1)
    return {
        "weakest_link": {
            "images": sorted([ids[a].decode(), ids[b].decode()]),
            "method": METHODS[method],
            "similarity": round(1 - 4 * (float(tree.data[worst]) - 1 - method), 6),
        }
    }
