"""Nearest centroids by torch: full scans first (`screen`), bounded scans later (`bounds`)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from curation.algorithms.arrays.device_memory import (
    GROUPS_PER_TILE,
    MEMBERS_PER_GROUP,
    send_ahead,
)
from curation.algorithms.arrays.large_arrays import steps
from curation.algorithms.arrays.screen_choice import screen_type
from curation.algorithms.arrays.screened_products import RoundedVectors
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
"""Points whose bounds are checked at once: their vectors take 16 MB at 256 dimensions."""
MIN_GROUP, MAX_GROUP = 16, 64
"""Centroids of a group: with fewer, products are too narrow; with more, bounds are too loose."""
BOUND_BYTES = 2**31
"""Memory for bounds. If they would take more, groups are larger."""
CALLS_WITHOUT_BOUNDS = 1
"""First calls that keep no bounds: centroids move so far that bounds would exclude nothing."""
MIN_GROUPS = 8
"""Number of groups from which bounds save work."""


def load(vectors: Vectors, device: str = "cpu") -> TorchAssigner:
    """Return the back end for points (n, dim) on a device."""
    return TorchAssigner(vectors, device, screen_type(device))


class TorchAssigner:
    """Nearest centroids of fixed points. Calls get cheaper as the centroids settle.

    Args:
        vectors: points, (n, dim).
        device: where products are computed.
        kind: type of the screen.

    Attributes:
        calls: number of calls of `assign` so far.
        scanned_shares: for each call the share of (point, group of centroids) pairs that were scored.
    """

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
        self._measured: dict[tuple[int, int], tuple[float, float]] = {}

    def assign(self, centroids: Centroids) -> ClusterIds:
        """Return the nearest centroid of each point. See `Assigner.assign`."""
        groups, drift = self._groups_and_drift(centroids)
        screen = ScreenedCentroids.of(centroids, groups, self.kind, self.device)
        columns = GroupedCentroids.of(groups, screen)
        bounded = None if drift is None else BoundedScan.of(screen, drift)
        keep_bounds = self._bounds_pay(centroids)
        nearest = np.empty(len(self.vectors), np.int32)
        scanned = 0.0
        parts = self._blocks()
        blocks = send_ahead((self.vectors[part] for part in parts), self.device)
        for number, (part, exact) in enumerate(zip(parts, blocks, strict=True)):
            steps = self._steps(part.start, exact, screen.sizes.queries)
            block = PointBlock(self.vectors[part], steps, screen)
            result = None
            if bounded is not None:
                before = torch.from_numpy(self._nearest[part]).to(self.device).long()
                result = bounded.assign(block, self._bounds[number], before)
            if result is None:
                bounds = self._bounds_of(number, groups, block) if keep_bounds else None
                result = full_scan(block, columns, bounds), 1.0
            nearest[part], share = result
            scanned += share * len(block.points)
        self.scanned_shares.append(scanned / max(len(self.vectors), 1))
        self._nearest, self._before = nearest, centroids
        self.calls += 1
        return nearest

    def _bounds_of(self, number: int, groups: RowNumbers, block: PointBlock) -> Tensor:
        """Return the tensor for the bounds of a block, (groups, n)."""
        if number == len(self._bounds):
            shape = len(groups), len(block.points)
            self._bounds.append(torch.empty(shape, device=self.device))
        return self._bounds[number]

    def _blocks(self) -> list[slice]:
        """Return the rows of each block."""
        count = len(self.vectors)
        starts = range(0, count, POINTS_PER_BLOCK)
        return [slice(start, min(start + POINTS_PER_BLOCK, count)) for start in starts]

    def _steps(self, first: int, block: Tensor, size: int) -> list[PointStep]:
        """Return the points of a block, rounded. What rounding changes is measured only once.

        Args:
            first: the number of the first point of the block.
            block: its points on the device.
            size: points of a step.
        """
        point_steps = []
        for start in range(0, len(block), size):
            exact = block[start : start + size]
            key = first + start, len(exact)
            measured = self._measured.get(key)
            if measured is None:
                rounded = RoundedVectors.of(exact, self.kind)
                self._measured[key] = rounded.moved, rounded.longest
            else:
                rounded = RoundedVectors(exact.to(self.kind), *measured)
            point_steps.append(PointStep(start, exact, rounded))
        return point_steps

    def _groups_and_drift(self, centroids: Centroids) -> tuple[RowNumbers, Tensor | None]:
        """Return the groups of the centroids, and how much scores may have grown in each.

        Returns:
            Groups (groups, size), with the members that moved most first, and the largest growth of a
            score in each group without its movers, (groups,). The growth is None if all centroids must
            be scored.
        """
        before, groups = self._before, self._groups
        if not self._bounds_pay(centroids):
            return _consecutive_groups(len(centroids)), None
        if before is None or groups is None or not self._bounds or len(before) != len(centroids):
            size = self._group_size(len(centroids))
            self._groups = neighbour_groups(centroids.vectors, size).reshape(-1, size)
            self._bounds = []
            return self._groups, None
        growth = np.empty(len(centroids))
        for part in steps(centroids.vectors):
            moved = centroids.vectors[part].astype(np.float64) - before.vectors[part]
            # Points are at most a little longer than 1.
            growth[part] = np.sqrt(np.einsum("kd,kd->k", moved, moved)) * (1 + 2.0**-7)
        growth += before.offset - centroids.offset
        groups = np.take_along_axis(groups, np.argsort(-growth[groups], axis=1), axis=1)
        largest = growth[groups[:, mover_count(groups)]]
        # Rounded up, because bounds are float32.
        return groups, torch.from_numpy((largest + 1e-6).astype(np.float32)).to(self.device)

    def _group_size(self, centroids: int) -> int:
        size_for_memory = -(-4 * len(self.vectors) * centroids // BOUND_BYTES)
        return max(MIN_GROUP, min(MAX_GROUP, centroids // MAX_GROUP), size_for_memory)

    def _bounds_pay(self, centroids: Centroids) -> bool:
        """Whether a later call can use the bounds of this one."""
        if self.device.type != "cpu":
            # Each group takes a dozen of kernels, whose start alone takes longer than a full scan.
            return False
        enough_groups = len(centroids) // self._group_size(len(centroids)) >= MIN_GROUPS
        return self.calls >= CALLS_WITHOUT_BOUNDS and enough_groups


def _consecutive_groups(centroids: int) -> RowNumbers:
    """Return groups (groups, size) of consecutive centroids; the last one is repeated to fill up."""
    size = min(MEMBERS_PER_GROUP, -(-centroids // GROUPS_PER_TILE))
    groups = -(-centroids // size)
    return np.minimum(np.arange(groups * size), centroids - 1).reshape(-1, size)
