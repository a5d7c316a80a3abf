"""Nearest centroids by a bounded scan: only groups of centroids that a bound does not exclude.

A point's score with every member of a group of centroids is at most its largest score when the
group was last scored, plus how far the members have moved since. These are the group bounds of
Yinyang k-means (Ding et al. 2015, Yinyang K-Means: A Drop-In Replacement of the Classic K-Means
with Consistent Speedup, section 3), here for inner products. A few members of each group, the
movers, move much further than the others. They are scored in every call, so that the bound grows
only by what the others moved. A group is scored again only if its bound reaches the score of the
centroid that the point belonged to.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from curation.algorithms.arrays.rounding import rounding_bound
from curation.algorithms.arrays.screened_products import ErrorBound, RoundedVectors
from curation.algorithms.arrays.vectors import RowNumbers, Vectors
from curation.algorithms.kmeans.backends.nearest import ClusterIds
from curation.algorithms.kmeans.backends.screen import (
    GroupedCentroids,
    PointBlock,
    PointStep,
    ScreenedCentroids,
)

MEMBERS_PER_MOVER = 4
"""One of this many members of a group is scored in every call: those that moved most."""
MAX_SHARE = 0.12
"""Share of the groups above which scoring all of them at once is faster."""
MAX_PAIRS = 2**22
"""Candidate pairs of a block above which a full scan, which counts those of each point, takes over."""
ROWS_MULTIPLE = 512
"""The number of points that are scored with a group is padded to a multiple of this."""
DIRECTION_ROWS = 2**15
"""Centroids that tell in which direction many of them spread most, and that are projected at once."""
Pairs = tuple[Tensor, Tensor]
"""Points and centroids of candidate pairs, (m,) each."""


def mover_count(groups: RowNumbers) -> int:
    """Return how many members of each group (groups, size) are scored in every call."""
    size: int = groups.shape[1]
    return size // MEMBERS_PER_MOVER


@dataclass(frozen=True)
class BoundedScan:
    """The centroids of one call, laid out for a bounded scan.

    Attributes:
        drift: how much the largest score in each group may have grown, without its movers, (groups,).
        movers: the movers of each group.
        others: the other members of each group, (groups, size).
        other_vectors: their vectors, (groups · size, dim).
        offset: their offsets, or None if all are zero.
    """

    drift: Tensor
    movers: GroupedCentroids
    others: Tensor
    other_vectors: RoundedVectors
    offset: Tensor | None

    @classmethod
    def of(cls, screen: ScreenedCentroids, drift: Tensor) -> BoundedScan:
        """Lay out centroids. The movers are the first members of each group."""
        movers = mover_count(screen.groups)
        others = np.ascontiguousarray(screen.groups[:, movers:])
        order = torch.from_numpy(others).to(screen.vectors.device)
        return cls(
            drift,
            GroupedCentroids.of(np.ascontiguousarray(screen.groups[:, :movers]), screen),
            order,
            RoundedVectors.of(screen.vectors[order.ravel()], screen.kind),
            screen.offset_of(order.ravel()),
        )

    def assign(
        self, block: PointBlock, bounds: Tensor, before: Tensor
    ) -> tuple[ClusterIds, float] | None:
        """Return the nearest centroids, and the share of groups that were scored.

        Args:
            block: the points.
            bounds: the largest score that a point can have in each group, (groups, n); is updated.
            before: the nearest centroid of each point in the call before, (n,).

        Returns:
            Centroids (n,) and the share; None if more than MAX_SHARE of the groups must be scored, or
            if more than MAX_PAIRS centroids are within the bound.
        """
        least = self._least_scores(block, before)
        bounds += self.drift[:, None]
        needed = bounds >= least
        share = int(torch.count_nonzero(needed)) / needed.numel()
        if share > MAX_SHARE:
            return None
        pairs = self._scan_groups(block, needed, least, bounds)
        if sum(len(rows) for rows, _ in pairs) > MAX_PAIRS:
            return None
        pairs += [self._scan_movers(step, least, bounds) for step in block.steps]
        rows, clusters = (torch.cat(part) for part in zip(*pairs, strict=True))
        # The centroid before is a mover or in a needed group, so every point has a candidate.
        block.set_nearest(block.all_points, rows, clusters)
        return block.nearest, share

    def _least_scores(self, block: PointBlock, before: Tensor) -> Tensor:
        """Return a lower bound on each point's score with the centroid that it belonged to, (n,)."""
        scores = []
        for step in block.steps:
            rows = torch.arange(len(step.exact), device=before.device)
            clusters = before[step.start : step.start + len(step.exact)]
            scores.append(block.screen.scores(step.exact, rows, clusters))
        return torch.cat(scores) - rounding_bound(block.points.shape[1])

    def _scan_groups(
        self, block: PointBlock, needed: Tensor, least: Tensor, bounds: Tensor
    ) -> list[Pairs]:
        """Return the candidates among the members of needed groups that are no movers.

        Args:
            block: the points.
            needed: which groups must be scored for which points, (groups, n).
            least: score from which a centroid is a candidate, (n,).
            bounds: (groups, n); tightened for the groups that are scored.
        """
        points = block.all_points.rounded
        max_offset = 0.0 if self.offset is None else float(self.offset.abs().max())
        error = ErrorBound.between(points, self.other_vectors, max_offset)
        threshold = error.screened_from(least)
        size = self.others.shape[1]
        pairs, count = [], 0
        for number, members in enumerate(self.others):
            rows = torch.nonzero(needed[number])[:, 0]
            part = slice(number * size, (number + 1) * size)
            # Padded, so that products have few shapes: oneDNN compiles code for each.
            padded = torch.nn.functional.pad(rows, (0, -len(rows) % ROWS_MULTIPLE))
            scores = self.other_vectors.half[part] @ points.half.index_select(0, padded).T
            scores = scores[:, : len(rows)]
            if self.offset is not None:
                scores = scores.float() - self.offset[part, None]
            bounds[number, rows] = error.at_most(scores.amax(dim=0).float())
            member, point = torch.nonzero(scores >= threshold[rows], as_tuple=True)
            pairs.append((rows[point], members[member]))
            count += len(point)
            if count > MAX_PAIRS:
                break
        return pairs

    def _scan_movers(self, step: PointStep, least: Tensor, bounds: Tensor) -> Pairs:
        """Return the candidates among the movers, and widen the bounds to hold for these too."""
        part = slice(step.start, step.start + len(step.exact))
        pairs, tops, first = [], [], 0
        for tile in self.movers.tiles:
            scores = tile.scores(step.rounded.half)
            top = tile.tops(scores)
            threshold = tile.error(step.rounded).screened_from(least[part])
            row, column, _ = tile.reaching(threshold, scores, top)
            pairs.append((row + step.start, self.movers.order[column + first]))
            tops.append(top)
            first += tile.rows
        mover_bounds = self.movers.upper_bounds(tops, step.rounded)
        bounds[:, part] = torch.maximum(bounds[:, part], mover_bounds)
        rows, clusters = (torch.cat(part) for part in zip(*pairs, strict=True))
        return rows, clusters


def neighbour_groups(centroids: Vectors, size: int) -> RowNumbers:
    """Divide centroids (k, dim) into groups of neighbours.

    They are halved again and again across the direction in which they spread most. The groups
    decide how long a bounded scan takes, and never change its result.

    Returns:
        Numbers of centroids, group after group of `size`, (groups · size,). Some are repeated to
        fill up a group.
    """
    groups: list[RowNumbers] = []
    waiting = [(np.arange(len(centroids)), -(-len(centroids) // size))]
    while waiting:
        rows, parts = waiting.pop()
        if parts == 1:
            groups.append(np.resize(rows, size))
            continue
        left = parts // 2
        order = np.argsort(_along_main_direction(centroids, rows), kind="stable")
        cut = min(len(rows) * left // parts + 1, left * size)
        waiting += [(rows[order[:cut]], left), (rows[order[cut:]], parts - left)]
    return np.concatenate(groups)


def _along_main_direction(vectors: Vectors, rows: RowNumbers) -> Vectors:
    """Return the coordinates of some vectors along their main direction, (m,): power iteration.

    Args:
        vectors: (n, dim).
        rows: which of them, (m,). Of many, some tell the direction.
    """
    some = vectors[rows[:: -(-len(rows) // DIRECTION_ROWS)]]
    centre = some.mean(axis=0)
    centred = some - centre
    direction = centred[np.argmax(np.einsum("nd,nd->n", centred, centred))]
    for _ in range(4):
        direction = centred.T @ (centred @ direction)
        direction /= max(float(np.linalg.norm(direction)), 1e-30)
    coordinates: Vectors = np.empty(len(rows), vectors.dtype)
    for start in range(0, len(rows), DIRECTION_ROWS):
        part = slice(start, start + DIRECTION_ROWS)
        coordinates[part] = (vectors[rows[part]] - centre) @ direction
    return coordinates
