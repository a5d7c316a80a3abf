"""Looking at some centroids again: bounds by group, of those that moved a little.

A point's score against every member of a group of centroids is at most the best it had when last
looked at plus how far the group's members have moved since (the bounds by group of Yinyang k-means,
Ding et al. 2015, section 3, for inner products). A few members of each group move much further than the
others; those are looked at in every call, so that the bound grows by what the others moved only. Of the
others, only groups whose bound reaches the score of the point's own centroid are looked at again.
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
"""One in so many members of a group is looked at in every call: those that moved most."""
MAX_SHARE = 0.12
"""Share of groups to look at from which looking at all of them at once is faster."""
ROWS_MULTIPLE = 512
"""Points looked at in one group are filled up to a multiple of this."""
Pairs = tuple[Tensor, Tensor]
"""Points and centroids, each (m,)."""


def mover_count(groups: RowNumbers) -> int:
    """Return how many members of a group are looked at in every call."""
    size: int = groups.shape[1]
    return size // MEMBERS_PER_MOVER


@dataclass(frozen=True)
class BoundedScan:
    """Looking at centroids that moved a little: the loose ones, and groups whose bound is in reach.

    `others` (groups, size) are the other members, `other_vectors` (groups · size, dim) their vectors.
    """

    drift: Tensor
    movers: GroupedCentroids
    others: Tensor
    other_vectors: RoundedVectors
    offset: Tensor | None

    @classmethod
    def of(cls, screen: ScreenedCentroids, drift: Tensor) -> BoundedScan:
        """Lay out centroids whose groups have the loose members first."""
        many = mover_count(screen.groups)
        others = np.ascontiguousarray(screen.groups[:, many:])
        order = torch.from_numpy(others).to(screen.vectors.device)
        return cls(
            drift,
            GroupedCentroids.of(np.ascontiguousarray(screen.groups[:, :many]), screen),
            order,
            RoundedVectors.of(screen.vectors[order.ravel()], screen.kind),
            screen.shift(order.ravel()),
        )

    def assign(
        self, block: PointBlock, bounds: Tensor, own: Tensor
    ) -> tuple[ClusterIds, float] | None:
        """Return the nearest centroids and the share of groups looked at; None if too many.

        Args:
            block: the points.
            bounds: the most a point scored in each group, (groups, n); brought up to date in place.
            own: the nearest centroid before, (n,).
        """
        least = self._least(block, own)
        bounds += self.drift[:, None]
        needed = bounds >= least
        share = int(torch.count_nonzero(needed)) / needed.numel()
        if share > MAX_SHARE:
            return None
        pairs = self._scan_groups(block, needed, least, bounds)
        for step in block.steps:
            pairs.append(self._scan_movers(step, least, bounds))
        rows, clusters = (torch.cat(part) for part in zip(*pairs, strict=True))
        # A point's own centroid is loose, or in a group that is needed: no point is without a pair.
        block.settle(block.whole, rows, clusters)
        return block.nearest, share

    def _least(self, block: PointBlock, own: Tensor) -> Tensor:
        """Return what the own centroid of each point scores at least, (n,)."""
        scores = []
        for step in block.steps:
            every = torch.arange(len(step.exact), device=own.device)
            clusters = own[step.start : step.start + len(step.exact)]
            scores.append(block.screen.scores(step.exact, every, clusters))
        return torch.cat(scores) - rounding_bound(block.points.shape[1])

    def _scan_groups(
        self, block: PointBlock, needed: Tensor, least: Tensor, bounds: Tensor
    ) -> list[Pairs]:
        """Return what reaches `least` (n,) of the groups needed (groups, n); tightens their bounds."""
        points = block.whole.rounded
        most = 0.0 if self.offset is None else float(self.offset.abs().max())
        error = ErrorBound.between(points, self.other_vectors, most)
        from_here = error.screened_from(least)
        size = self.others.shape[1]
        pairs = []
        for number, members in enumerate(self.others):
            rows = torch.nonzero(needed[number])[:, 0]
            own = slice(number * size, (number + 1) * size)
            # Products of few different shapes, since oneDNN compiles code for each.
            filled = torch.nn.functional.pad(rows, (0, -len(rows) % ROWS_MULTIPLE))
            scores = self.other_vectors.half[own] @ points.half.index_select(0, filled).T
            scores = scores[:, : len(rows)]
            if self.offset is not None:
                scores = scores.float() - self.offset[own, None]
            bounds[number, rows] = error.at_most(scores.amax(dim=0).float())
            place, which = torch.nonzero(scores >= from_here[rows], as_tuple=True)
            pairs.append((rows[which], members[place]))
        return pairs

    def _scan_movers(self, step: PointStep, least: Tensor, bounds: Tensor) -> Pairs:
        """Return which of the loose members reach `least` (n,); widens bounds to hold for them."""
        part = slice(step.start, step.start + len(step.exact))
        every, tops, first = [], [], 0
        for tile in self.movers.tiles:
            scores = tile.scores(step.rounded.half)
            top = tile.tops(scores)
            from_here = tile.error(step.rounded).screened_from(least[part])
            row, column, _ = tile.reaching(from_here, scores, top)
            every.append((row + step.start, self.movers.order[column + first]))
            tops.append(top)
            first += tile.rows
        scores = self.movers.tops(tops, step.rounded)
        bounds[:, part] = torch.maximum(bounds[:, part], scores)
        rows, clusters = (torch.cat(part) for part in zip(*every, strict=True))
        return rows, clusters


def neighbour_groups(centroids: Vectors, size: int) -> RowNumbers:
    """Return the centroids in groups of `size` neighbours each, (groups · size,), some repeated.

    Halved again and again across the direction of largest spread; the grouping costs or saves time and
    never changes a result.
    """
    groups = -(-len(centroids) // size)
    found: list[RowNumbers] = []
    waiting = [(np.arange(len(centroids)), groups)]
    while waiting:
        rows, parts = waiting.pop()
        if parts == 1:
            found.append(np.resize(rows, size))
            continue
        left = parts // 2
        order = np.argsort(_along_spread(centroids[rows]), kind="stable")
        cut = min(len(rows) * left // parts + 1, left * size)
        waiting += [(rows[order[:cut]], left), (rows[order[cut:]], parts - left)]
    return np.concatenate(found)


def _along_spread(vectors: Vectors) -> Vectors:
    centred = vectors - vectors.mean(axis=0)
    direction = centred[np.argmax(np.einsum("nd,nd->n", centred, centred))]
    for _ in range(4):
        direction = centred.T @ (centred @ direction)
        direction /= max(float(np.linalg.norm(direction)), 1e-30)
    result: Vectors = centred @ direction
    return result
