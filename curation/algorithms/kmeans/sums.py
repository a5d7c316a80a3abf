"""Sums of the points of each cluster, on a CPU or a GPU: exact, so in any order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from curation.algorithms.arrays.device_memory import fits, send_ahead
from curation.algorithms.arrays.vectors import Vectors
from curation.algorithms.kmeans.backends.nearest import POINTS_PER_BLOCK, ClusterIds, Doubles

POINTS_PER_STEP = 1024
"""Points that a CPU converts to float64 at once, so that they fit in the cache."""


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
        """Add points to the sums of their clusters, without rounding.

        Args:
            vectors: points on the grid of `round_to_grid`, (n, dim).
            cluster_ids: the cluster of each point, (n,).
            sign: 1 to add the points, -1 to subtract them.
        """
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
