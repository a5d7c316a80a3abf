"""Sums of few points by numpy: exact, so the same bits as those of `sums` in any order."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from curation.algorithms.arrays.vectors import Vectors
from curation.algorithms.kmeans.backends.nearest import ClusterIds, Doubles
from curation.algorithms.kmeans.grid import GRID_STEPS, POINTS_PER_STEP
from curation.engine.sorted_arrays import stable_order

WORK_PER_VALUE = 64
"""Multiplications that take as long as it takes to add up a number of a point."""


class Adder(Protocol):
    """Adds points to sums (k, dim)."""

    def add(self, vectors: Vectors, cluster_ids: ClusterIds, sign: int = 1) -> None:
        """Add points to the sums of their clusters, without rounding.

        Args:
            vectors: points on the grid of `round_to_grid`, (n, dim).
            cluster_ids: the cluster of each point, (n,).
            sign: 1 to add the points, -1 to subtract them.
        """


class NumpyAdder:
    """Adds points to sums (k, dim), which are changed in place.

    Args:
        sums: float64.
    """

    def __init__(self, sums: Doubles) -> None:
        self.sums = sums

    def add(self, vectors: Vectors, cluster_ids: ClusterIds, sign: int = 1) -> None:
        """Add points to the sums of their clusters, without rounding. See `Adder.add`."""
        for start in range(0, len(vectors), POINTS_PER_STEP):
            part = slice(start, start + POINTS_PER_STEP)
            order = stable_order(cluster_ids[part])
            clusters, first = np.unique(cluster_ids[part][order], return_index=True)
            doubles = vectors[part][order].astype(np.float64)
            self.sums[clusters] += sign * np.add.reduceat(doubles, first, axis=0)


def sum_of_squares(vectors: Vectors) -> float:
    """Return the sum of the squared lengths of points on the grid, as `sums.sum_of_squares` does."""
    total = 0
    for start in range(0, len(vectors), POINTS_PER_STEP):
        doubles = vectors[start : start + POINTS_PER_STEP].astype(np.float64)
        squares = np.einsum("nd,nd->n", doubles, doubles)
        total += int(np.rint(squares * GRID_STEPS).sum())
    return total / GRID_STEPS
