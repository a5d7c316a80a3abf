"""Nearest centroids by a full scan: all are screened in bfloat16, candidates are scored exactly.

The error of a screened score is bounded (see `screened_products`). Centroids within the bound of
the best are scored in float32, and those within rounding of the best of these in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from curation.algorithms.arrays.device_memory import TileSizes, tile_sizes
from curation.algorithms.arrays.pair_scores import pair_scores
from curation.algorithms.arrays.rounding import rounding_bound
from curation.algorithms.arrays.screened_products import (
    RoundedVectors,
    Tile,
    scan,
)
from curation.algorithms.arrays.vectors import RowNumbers, Vectors
from curation.algorithms.kmeans.backends.nearest import (
    Centroids,
    ClusterIds,
    nearest_candidates,
    nearest_of_all,
)


class GroupedCentroids(NamedTuple):
    """Centroids laid out in tiles by group.

    Attributes:
        tiles: for `scan`.
        order: the number of the centroid in each row, counted over all tiles.
    """

    tiles: list[Tile]
    order: Tensor

    @classmethod
    def of(cls, groups: RowNumbers, screen: ScreenedCentroids) -> GroupedCentroids:
        """Lay out the centroids of some groups, (groups, size)."""
        groups_per_tile = max(1, screen.sizes.columns // groups.shape[1])
        parts = [groups[i : i + groups_per_tile].T for i in range(0, len(groups), groups_per_tile)]
        orders = [torch.from_numpy(part.ravel()).to(screen.vectors.device) for part in parts]
        tiles = [
            Tile.of(screen.vectors[order], screen.kind, part.shape[1], screen.offset_of(order))
            for order, part in zip(orders, parts, strict=True)
        ]
        return cls(tiles, torch.cat(orders))

    def upper_bounds(self, tops: list[Tensor], points: RoundedVectors) -> Tensor:
        """Return the largest exact score that each point can have in each group, (groups, n).

        Args:
            tops: for each tile the best screened score of each group, (n, groups).
            points: the rounded points.
        """
        bounds = [
            tile.error(points).at_most(top.float()).T
            for tile, top in zip(self.tiles, tops, strict=True)
        ]
        return torch.cat(bounds)


@dataclass(frozen=True)
class ScreenedCentroids:
    """The centroids of one call on a device.

    Attributes:
        centroids: the k centroids.
        groups: their numbers in groups, (groups, size); some are repeated to fill up a group.
        kind: type of the screen.
        vectors: (k, dim) on the device.
        offset: (k,) float32 on the device.
        sizes: of tiles.
    """

    centroids: Centroids
    groups: RowNumbers
    kind: torch.dtype
    vectors: Tensor
    offset: Tensor
    sizes: TileSizes

    @classmethod
    def of(
        cls, centroids: Centroids, groups: RowNumbers, kind: torch.dtype, device: torch.device
    ) -> ScreenedCentroids:
        """Copy centroids to a device."""
        vectors = torch.from_numpy(centroids.vectors).to(device)
        offset = torch.from_numpy(centroids.offset.astype(np.float32)).to(device)
        sizes = tile_sizes(device, vectors.shape[1])
        return cls(centroids, groups, kind, vectors, offset, sizes)

    def offset_of(self, order: Tensor) -> Tensor | None:
        """Return the offsets of some centroids, or None if all offsets are zero."""
        return self.offset[order] if self.centroids.offset.any() else None

    def scores(self, exact: Tensor, rows: Tensor, clusters: Tensor) -> Tensor:
        """Return the float32 score of each pair of a point and a centroid, (m,)."""
        return pair_scores(exact, self.vectors, rows, clusters) - self.offset[clusters]


class PointStep(NamedTuple):
    """Points of a block that are multiplied at once.

    Attributes:
        start: the first of them within the block.
        exact: the points, (n, dim).
        rounded: the points in the type of the screen.
    """

    start: int
    exact: Tensor
    rounded: RoundedVectors


class PointBlock:
    """Points that are assigned together, and the centroids of one call.

    Attributes:
        points: (n, dim).
        steps: the same points, in parts.
        screen: the centroids.
        nearest: the nearest centroid of each point, (n,), once it was set.
    """

    def __init__(self, points: Vectors, steps: list[PointStep], screen: ScreenedCentroids) -> None:
        self.points = points
        self.steps = steps
        self.screen = screen
        self.nearest: ClusterIds = np.empty(len(points), np.int32)

    @cached_property
    def all_points(self) -> PointStep:
        """All points of the block as one step."""
        return PointStep(
            0,
            torch.cat([step.exact for step in self.steps]),
            RoundedVectors(
                torch.cat([step.rounded.half for step in self.steps]),
                max(step.rounded.moved for step in self.steps),
                max(step.rounded.longest for step in self.steps),
            ),
        )

    def set_nearest(self, step: PointStep, rows: Tensor, clusters: Tensor) -> None:
        """Set the nearest centroid of each point of a step to the best of its candidates.

        Args:
            step: the points.
            rows: the point of each candidate pair, within the step, (m,). All pairs of a point are
                there.
            clusters: the centroid of each candidate pair, (m,).
        """
        nearest = self.nearest[step.start : step.start + len(step.exact)]
        several = (torch.bincount(rows, minlength=len(nearest)) > 1)[rows]
        nearest[rows[~several].cpu().numpy()] = clusters[~several].cpu().numpy()
        rows, clusters = rows[several], clusters[several]
        scores = self.screen.scores(step.exact, rows, clusters)
        best = torch.full((len(nearest),), -torch.inf, device=scores.device)
        best = best.scatter_reduce(0, rows, scores, "amax")
        close = scores >= best[rows] - 2 * rounding_bound(self.points.shape[1])
        close_rows, close_clusters = rows[close].cpu().numpy(), clusters[close].cpu().numpy()
        nearest[close_rows] = close_clusters
        undecided = np.bincount(close_rows, minlength=len(nearest))[close_rows] > 1
        decided, chosen = nearest_candidates(
            self.points,
            self.screen.centroids,
            close_rows[undecided] + step.start,
            close_clusters[undecided].astype(np.int32),
        )
        self.nearest[decided] = chosen


def full_scan(block: PointBlock, columns: GroupedCentroids, bounds: Tensor | None) -> ClusterIds:
    """Score all centroids for the points of a block and return the nearest of each, (n,).

    Args:
        block: the points.
        columns: all centroids.
        bounds: is set to the largest score that a point can have in each group, (groups, n).
    """
    for step in block.steps:
        result = scan(step.rounded, columns.tiles, 1, keep_tops=bounds is not None)
        if bounds is not None:
            part = slice(step.start, step.start + len(step.exact))
            bounds[:, part] = columns.upper_bounds(result.tops, step.rounded)
        block.set_nearest(step, result.query, columns.order[result.place])
        crowded = torch.nonzero(result.crowded)[:, 0].cpu().numpy() + step.start
        if len(crowded):
            block.nearest[crowded] = nearest_of_all(block.points[crowded], block.screen.centroids)
    return block.nearest
