"""Nearest centroids by torch: all at first, then those that bounds leave (`screen` and `bounds`)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from curation.algorithms.arrays.screened_products import (
    GROUPS_PER_TILE,
    RoundedVectors,
    in_steps,
    screen_type,
)
from curation.algorithms.arrays.vectors import RowNumbers, Vectors
from curation.algorithms.kmeans.backends.bounds import BoundedScan, mover_count, neighbour_groups
from curation.algorithms.kmeans.backends.nearest import Centroids, ClusterIds
from curation.algorithms.kmeans.backends.screen import (
    GroupedCentroids,
    PointBlock,
    PointStep,
    ScreenedCentroids,
    full_scan,
)

POINTS_PER_BLOCK = 2**15
"""Points whose bounds are looked through at once: their vectors take 16 MB at 256 dimensions."""
MIN_GROUP, MAX_GROUP = 16, 64
"""Centroids in a group: fewer make products too narrow, more make bounds too wide."""
BOUND_BYTES = 2**31
"""Memory for bounds; where it would not do, groups are larger."""
CALLS_WITHOUT_BOUNDS = 1
"""Calls that keep no bounds: centroids jump at first, so bounds would not hold."""
MIN_GROUPS = 8
"""Groups from which keeping bounds pays."""


def load(vectors: Vectors, device: str = "cpu") -> TorchAssigner:
    """Return the back end for points (n, dim) on a device."""
    return TorchAssigner(vectors, device, screen_type(device))


class TorchAssigner:
    """Nearest centroids of fixed points; each call may be cheaper than the one before."""

    def __init__(self, vectors: Vectors, device: str, kind: torch.dtype) -> None:
        self.vectors = vectors
        self.device = torch.device(device)
        self.kind = kind
        self.calls = 0
        self.scanned_shares: list[float] = []
        self._groups: RowNumbers | None = None
        self._before: Centroids | None = None
        self._bounds: list[Tensor] = []
        self._nearest: ClusterIds = np.empty(0, np.int32)
        self._measured: dict[int, tuple[float, float]] = {}

    def assign(self, centroids: Centroids) -> ClusterIds:
        """Return for each point the centroid of largest float64 score, ties to the smaller number."""
        groups, drift = self._grouped(centroids)
        screen = ScreenedCentroids.of(centroids, groups, self.kind, self.device)
        columns = GroupedCentroids.of(groups, screen)
        bounded_scan = None if drift is None else BoundedScan.of(screen, drift)
        bounded = self._bounds_pay(centroids)
        nearest = np.empty(len(self.vectors), np.int32)
        scanned = 0.0
        for number, start in enumerate(range(0, len(self.vectors), POINTS_PER_BLOCK)):
            part = slice(start, min(start + POINTS_PER_BLOCK, len(self.vectors)))
            block = PointBlock(self.vectors[part], self._steps(part), screen)
            if bounded_scan is not None:
                own = torch.from_numpy(self._nearest[part]).to(self.device).long()
                found = bounded_scan.assign(block, self._bounds[number], own)
                if found is not None:
                    nearest[part], share = found
                    scanned += share * len(block.points)
                    continue
            if bounded and number == len(self._bounds):
                room = torch.empty((len(groups), len(block.points)), device=self.device)
                self._bounds.append(room)
            nearest[part] = full_scan(block, columns, self._bounds[number] if bounded else None)
            scanned += len(block.points)
        self.scanned_shares.append(scanned / max(len(self.vectors), 1))
        self._nearest, self._before = nearest, centroids
        self.calls += 1
        return nearest

    def _steps(self, block: slice) -> list[PointStep]:
        """Return points in the screen's type; how far rounding moves them is measured once."""
        found = []
        for start, exact in in_steps(self.vectors[block], str(self.device)):
            known = self._measured.get(block.start + start)
            if known is None:
                rounded = RoundedVectors.of(exact, self.kind)
                self._measured[block.start + start] = rounded.moved, rounded.longest
            else:
                rounded = RoundedVectors(exact.to(self.kind), *known)
            found.append(PointStep(start, exact, rounded))
        return found

    def _grouped(self, centroids: Centroids) -> tuple[RowNumbers, Tensor | None]:
        """Return groups (groups, size), those that moved most first, and by how much scores may have
        grown by group, the loose members left out; None if everything has to be looked at."""
        before, groups = self._before, self._groups
        if not self._bounds_pay(centroids):
            size = -(-len(centroids) // GROUPS_PER_TILE)
            parts = -(-len(centroids) // size)
            return np.minimum(np.arange(parts * size), len(centroids) - 1).reshape(-1, size), None
        if before is None or groups is None or not self._bounds or len(before) != len(centroids):
            size = self._size(len(centroids))
            self._groups, self._bounds = (
                neighbour_groups(centroids.vectors, size).reshape(-1, size),
                [],
            )
            return self._groups, None
        moved = centroids.vectors.astype(np.float64) - before.vectors
        grown = np.sqrt(np.einsum("kd,kd->k", moved, moved)) * (1 + 2.0**-7)
        grown += before.offset - centroids.offset
        groups = np.take_along_axis(groups, np.argsort(-grown[groups], axis=1), axis=1)
        most = grown[groups[:, mover_count(groups)]]
        # Rounded up, since bounds are float32.
        return groups, torch.from_numpy((most + 1e-6).astype(np.float32)).to(self.device)

    def _size(self, centroids: int) -> int:
        fit = -(-4 * len(self.vectors) * centroids // BOUND_BYTES)
        return max(MIN_GROUP, min(MAX_GROUP, centroids // MAX_GROUP), fit)

    def _bounds_pay(self, centroids: Centroids) -> bool:
        """Whether a later call can make use of the bounds of this one."""
        few = len(centroids) // self._size(len(centroids)) < MIN_GROUPS
        return self.calls >= CALLS_WITHOUT_BOUNDS and not few
