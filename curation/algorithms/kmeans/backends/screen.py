"""Looking at all centroids: a bfloat16 product whose error is bounded, and what settles its candidates.

Only centroids within the bound remain to be scored in float32, and those within rounding in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from curation.algorithms.arrays.rounding import rounding_bound
from curation.algorithms.arrays.screened_products import (
    COLUMNS_PER_TILE,
    RoundedVectors,
    Tile,
    pair_scores,
    scan,
)
from curation.algorithms.arrays.vectors import RowNumbers, Vectors
from curation.algorithms.kmeans.backends.nearest import Centroids, ClusterIds, nearest_candidates


class GroupedCentroids(NamedTuple):
    """Centroids in tiles for a scan, and the number of the centroid in each column."""

    tiles: list[Tile]
    order: Tensor

    @classmethod
    def of(cls, groups: RowNumbers, screen: ScreenedCentroids) -> GroupedCentroids:
        """Lay out centroids by group, (groups, size)."""
        together = max(1, COLUMNS_PER_TILE // groups.shape[1])
        parts = [groups[i : i + together].T for i in range(0, len(groups), together)]
        orders = [torch.from_numpy(part.ravel()).to(screen.vectors.device) for part in parts]
        tiles = [
            Tile.of(screen.vectors[order], screen.kind, part.shape[1], screen.shift(order))
            for order, part in zip(orders, parts, strict=True)
        ]
        return cls(tiles, torch.cat(orders))

    def tops(self, tops: list[Tensor], points: RoundedVectors) -> Tensor:
        """Return the most that points can score in each group, (groups, n)."""
        every = [
            tile.error(points).at_most(top.float()).T
            for tile, top in zip(self.tiles, tops, strict=True)
        ]
        return torch.cat(every)


@dataclass(frozen=True)
class ScreenedCentroids:
    """Centroids (k, dim) of one call on a device, and their groups (groups, size), some repeated."""

    centroids: Centroids
    groups: RowNumbers
    kind: torch.dtype
    vectors: Tensor
    offset: Tensor

    @classmethod
    def of(
        cls, centroids: Centroids, groups: RowNumbers, kind: torch.dtype, device: torch.device
    ) -> ScreenedCentroids:
        """Take centroids to a device."""
        vectors = torch.from_numpy(centroids.vectors).to(device)
        offset = torch.from_numpy(centroids.offset.astype(np.float32)).to(device)
        return cls(centroids, groups, kind, vectors, offset)

    def shift(self, order: Tensor) -> Tensor | None:
        """Return the offsets of some centroids, or None where all are zero."""
        return self.offset[order] if self.centroids.offset.any() else None

    def scores(self, exact: Tensor, rows: Tensor, clusters: Tensor) -> Tensor:
        """Return the float32 score of each pair of a point and a centroid."""
        return pair_scores(exact, self.vectors, rows, clusters) - self.offset[clusters]


class PointStep(NamedTuple):
    """Some points of a block, from its row `start` on."""

    start: int
    exact: Tensor
    rounded: RoundedVectors


class PointBlock:
    """Points that are looked at together, with the centroids of one call."""

    def __init__(self, points: Vectors, steps: list[PointStep], screen: ScreenedCentroids) -> None:
        self.points = points
        self.steps = steps
        self.screen = screen
        self.nearest: ClusterIds = np.empty(len(points), np.int32)

    @cached_property
    def whole(self) -> PointStep:
        """Return all points as one step."""
        return PointStep(
            0,
            torch.cat([step.exact for step in self.steps]),
            RoundedVectors(
                torch.cat([step.rounded.half for step in self.steps]),
                max(step.rounded.moved for step in self.steps),
                max(step.rounded.longest for step in self.steps),
            ),
        )

    def settle(self, step: PointStep, rows: Tensor, clusters: Tensor) -> None:
        """Write the nearest of the candidate pairs (row in step, cluster), all those of each row."""
        nearest = self.nearest[step.start : step.start + len(step.exact)]
        several = (torch.bincount(rows, minlength=len(nearest)) > 1)[rows]
        nearest[rows[~several].cpu().numpy()] = clusters[~several].cpu().numpy()
        rows, clusters = rows[several], clusters[several]
        scores = self.screen.scores(step.exact, rows, clusters)
        best = torch.full((len(nearest),), -torch.inf, device=scores.device)
        best = best.scatter_reduce(0, rows, scores, "amax")
        close = scores >= best[rows] - 2 * rounding_bound(self.points.shape[1])
        rows_close, clusters_close = rows[close].cpu().numpy(), clusters[close].cpu().numpy()
        nearest[rows_close] = clusters_close
        several = np.bincount(rows_close, minlength=len(nearest))[rows_close] > 1
        settled, chosen = nearest_candidates(
            self.points,
            self.screen.centroids,
            rows_close[several] + step.start,
            clusters_close[several].astype(np.int32),
        )
        self.nearest[settled] = chosen


def full_scan(block: PointBlock, columns: GroupedCentroids, bounds: Tensor | None) -> ClusterIds:
    """Return the nearest centroids; writes the most a point can score to bounds (groups, n)."""
    for step in block.steps:
        found = scan(step.rounded, columns.tiles, 1)
        if bounds is not None:
            own = slice(step.start, step.start + len(step.exact))
            bounds[:, own] = columns.tops(found.tops, step.rounded)
        block.settle(step, found.query, columns.order[found.place])
    return block.nearest
