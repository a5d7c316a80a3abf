"""Sums of the points of each cluster, on a CPU or a GPU: exact, so in any order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from curation.algorithms.arrays.device_memory import fits, send_ahead
from curation.algorithms.arrays.vectors import Vectors
from curation.algorithms.kmeans.backends.nearest import POINTS_PER_BLOCK, ClusterIds, Doubles
from curation.algorithms.kmeans.grid import GRID_STEPS, POINTS_PER_STEP


class ClusterAdder:
    """Adds points to sums (k, dim) on a device.

    Args:
        sums: on the device.
    """

    def __init__(self, sums: torch.Tensor) -> None:
        self.sums = sums
        self.step = POINTS_PER_STEP if sums.device.type == "cpu" else POINTS_PER_BLOCK
        self.buffer = torch.empty((self.step, sums.shape[1]), dtype=sums.dtype, device=sums.device)

    def add(self, vectors: Vectors, cluster_ids: ClusterIds, sign: int = 1) -> None:
        """Add points to the sums of their clusters, without rounding. See `Adder.add`."""
        parts = [slice(start, start + self.step) for start in range(0, len(vectors), self.step)]
        points = send_ahead((vectors[part] for part in parts), self.sums.device)
        clusters = send_ahead((cluster_ids[part] for part in parts), self.sums.device)
        for sent, rows in zip(points, clusters, strict=True):
            doubles = self.buffer[: len(sent)].copy_(sent)
            self.sums.index_add_(0, rows, doubles, alpha=sign)


@contextmanager
def adding_to(sums: Doubles, device: str) -> Iterator[ClusterAdder]:
    """Yield what adds points to sums (k, dim), which have them at the end.

    A GPU holds the sums meanwhile, if they fit; otherwise they are added up here, to the same bits.

    Args:
        sums: (k, dim), changed in place.
        device: `cpu` or `cuda[:n]`.
    """
    here = torch.from_numpy(sums)
    on_device = here.to(device) if fits(sums.nbytes, torch.device(device)) else here
    yield ClusterAdder(on_device)
    if on_device is not here:
        here.copy_(on_device)


def sum_of_squares(vectors: Vectors) -> float:
    """Return the sum of the squared lengths of points on the grid, (n, dim)."""
    buffer = torch.empty((POINTS_PER_STEP, vectors.shape[1]), dtype=torch.float64)
    total = 0
    for start in range(0, len(vectors), POINTS_PER_STEP):
        part = torch.from_numpy(np.ascontiguousarray(vectors[start : start + POINTS_PER_STEP]))
        points = buffer[: len(part)].copy_(part)
        # In whole steps of the grid, so that this sum does not depend on its order either.
        total += int((points.square_().sum(dim=1) * GRID_STEPS).round().sum())
    return total / GRID_STEPS
