"""The exact nearest centroid where not all centroids are in memory: they pass by in blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from curation.algorithms.arrays.products import exact_similarity
from curation.algorithms.arrays.rounding import rounding_bound
from curation.algorithms.arrays.vectors import RowNumbers, Vectors
from curation.algorithms.kmeans.backends.nearest import (
    POINTS_PER_BLOCK,
    Assigner,
    Centroids,
    ClusterIds,
    Doubles,
    Floats,
    exact_scores,
)
from curation.algorithms.kmeans.lloyd import directions


def nearest_in_blocks(
    points: Vectors,
    blocks: Iterator[Centroids],
    backend: Callable[[Vectors], Assigner],
    device: str,
) -> tuple[ClusterIds, Floats]:
    """Return the nearest of all centroids to each point, as if all were one block.

    Args:
        points: unit vectors, (n, dim).
        blocks: the centroids in their order; at least one block. Two of them are in memory at once.
        backend: finds the nearest centroids within a block.
        device: where products are computed.

    Returns:
        Its number, ties to the smaller one, and the cosine similarity to it, (n,) each.
    """
    first = next(blocks)
    nearest = backend(points).assign(first)
    block = next(blocks, None)
    if block is None:
        rows = np.arange(len(points))
        return nearest, _similarity(points, first, rows, nearest, device)
    best, passed = _Best.of(points, first, nearest, device), len(first)
    del first
    while block is not None:
        # A new one each time: bounds of an earlier block say nothing about this one.
        best.compare(block, passed, backend(points).assign(block))
        passed += len(block)
        block = next(blocks, None)
    return best.nearest, best.similarity


@dataclass
class _Best:
    """The best centroid so far of each point.

    Attributes:
        points: (n, dim).
        device: where products are computed.
        nearest: its number among all centroids, (n,).
        score: its score, (n,).
        similarity: the cosine similarity to it, (n,).
    """

    points: Vectors
    device: str
    nearest: ClusterIds
    score: Doubles
    similarity: Floats

    @classmethod
    def of(cls, points: Vectors, first: Centroids, nearest: ClusterIds, device: str) -> _Best:
        """Return the best centroids of the first block."""
        similarity = _similarity(points, first, np.arange(len(points)), nearest, device)
        return cls(points, device, nearest, exact_scores(points, first, nearest), similarity)

    def compare(self, block: Centroids, passed: int, nearest: ClusterIds) -> None:
        """Take over the centroids of a block that are nearer.

        Args:
            block: the block.
            passed: number of centroids in the blocks before.
            nearest: the nearest centroid within the block of each point, (n,).
        """
        rows = self._may_be_nearer(block, nearest)
        scores = exact_scores(self.points, block, nearest[rows], rows)
        # Of equal scores, the earlier centroid has the smaller number.
        better = scores > self.score[rows]
        rows, scores = rows[better], scores[better]
        clusters = nearest[rows]
        self.score[rows] = scores
        self.nearest[rows] = clusters + np.int32(passed)
        self.similarity[rows] = _similarity(self.points, block, rows, clusters, self.device)

    def _may_be_nearer(self, block: Centroids, nearest: ClusterIds) -> RowNumbers:
        """Return the points whose float32 score reaches the best one so far, within rounding.

        Most points find their best centroid in few blocks, so few scores are computed in float64.
        """
        # torch takes seconds to import, which readers of centroids are spared.
        import torch

        from curation.algorithms.arrays.device_memory import send_ahead
        from curation.algorithms.arrays.pair_scores import pair_scores

        base = torch.from_numpy(block.vectors).to(self.device)
        clusters = torch.from_numpy(nearest).to(self.device).long()
        starts = range(0, len(self.points), POINTS_PER_BLOCK)
        parts = (self.points[start : start + POINTS_PER_BLOCK] for start in starts)
        bound, rows = rounding_bound(self.points.shape[1]), []
        for start, part in zip(starts, send_ahead(parts, self.device), strict=True):
            each = torch.arange(len(part), device=self.device)
            here = slice(start, start + len(part))
            scores = pair_scores(part, base, each, clusters[here]).cpu().numpy().astype(np.float64)
            scores -= block.offset[nearest[here]]
            rows.append(start + np.flatnonzero(scores + bound >= self.score[here]))
        return np.concatenate(rows)


def _similarity(
    points: Vectors, block: Centroids, rows: RowNumbers, clusters: ClusterIds, device: str
) -> Floats:
    """Return the cosine similarity of some points to one centroid of a block each, (m,)."""
    return exact_similarity(points, directions(block), rows, clusters.astype(np.int64), device)
