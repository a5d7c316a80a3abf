"""Nearest centroids by torch: screened in bfloat16, settled exactly, with bounds kept between calls.

A point's score against every member of a group of centroids is at most the best it had when last
looked at plus how far the group's members have moved since (the bounds by group of Yinyang k-means,
Ding et al. 2015, section 3, for inner products). Only groups whose bound reaches the score of the
point's own centroid are looked at again, by a bfloat16 product whose error is bounded, so that only
centroids within the bound remain to be scored in float32, and those within rounding in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from curation.kmeans.nearest import (
    BLOCK,
    Centroids,
    Clusters,
    Rows,
    decide,
    rounding_of,
)
from curation.vectors import Vectors

GROUP = 64
"""Centroids in a group: large enough for a fast product, small enough to be skipped often."""
SETTLED = 2
"""Calls that look at everything: centroids jump in the first iterations, so bounds would not hold."""
BOUND_BYTES = 2**31
"""Memory for bounds; where groups of 64 would take more, groups are larger."""
FEWEST = 8
"""Groups from which keeping bounds pays."""
HALF = 2.0**-8
"""Relative error of rounding to bfloat16, which has 8 significant bits."""
STEP = 1024
"""Points in one product with all centroids."""
FULL = 0.5
"""Share of a block's groups to look at from which looking at all of them in one product is faster."""


def load(vectors: Vectors, device: str = "cpu") -> TorchNearest:
    """Return the back end for points (n, dim) on a device."""
    return TorchNearest(vectors, device, screen_type(device))


def screen_type(device: str) -> torch.dtype:
    """Return the type of the screen: bfloat16 where products in it are faster than in float32."""
    fast = (
        device != "cpu"
        or torch.cpu._is_avx512_bf16_supported()
        or torch.cpu._is_amx_tile_supported()
    )
    return torch.bfloat16 if fast else torch.float32


@dataclass(frozen=True)
class Prepared:
    """Centroids as the screen takes them: groups of equal size, one after the other.

    `order` (groups · size,) is the centroid at each place; some of a group may repeat. `rounding` is
    how far rounding to the screen's type moves a centroid at most.
    """

    size: int
    order: Tensor
    half: Tensor
    offset: Tensor
    vectors: Tensor
    exact_offset: Tensor
    rounding: float
    longest: float


class TorchNearest:
    """Nearest centroids of fixed points; each call may be cheaper than the one before."""

    def __init__(self, vectors: Vectors, device: str, screen: torch.dtype) -> None:
        self.vectors = vectors
        self.device = torch.device(device)
        self.screen = screen
        self.calls = 0
        self.looked_at: list[float] = []
        self._groups: Rows | None = None
        self._before: Centroids | None = None
        self._bounds: list[Tensor] = []
        self._passed_over: set[int] = set()
        self._measures: dict[int, Measures] = {}
        self._nearest: Clusters = np.empty(0, np.int32)

    def assign(self, centroids: Centroids) -> Clusters:
        """Return for each point the centroid of largest float64 score, ties to the smaller number."""
        drift = self._drift(centroids)
        if drift is None:
            self._groups = self._grouping(centroids)
            self._bounds = []
        assert self._groups is not None
        ready = self._prepare(centroids, self._groups)
        nearest = np.empty(len(self.vectors), np.int32)
        looked_at = 0.0
        for number, start in enumerate(range(0, len(self.vectors), BLOCK)):
            part = slice(start, min(start + BLOCK, len(self.vectors)))
            block = self._block(start, self.vectors[part], centroids, ready)
            if drift is None:
                bounds, nearest[part] = block.look_at_all()
                if self._bounds_pay(centroids):
                    self._bounds.append(bounds)
                looked_at += len(block.points)
            else:
                self._bounds[number] += drift[:, None]
                if number in self._passed_over:
                    # Bounds did not help here the last time: not asked every time again.
                    self._passed_over.remove(number)
                    bounds, nearest[part] = block.look_at_all()
                    self._bounds[number], share = bounds, 1.0
                else:
                    own = self._nearest[part]
                    nearest[part], share = block.look_again(self._bounds[number], own)
                    if share == 1.0:
                        self._passed_over.add(number)
                looked_at += share * len(block.points)
        self.looked_at.append(looked_at / max(len(self.vectors), 1))
        self._nearest, self._before = nearest, centroids
        self.calls += 1
        return nearest

    def _block(self, start: int, points: Vectors, centroids: Centroids, ready: Prepared) -> Block:
        exact = torch.from_numpy(np.ascontiguousarray(points)).to(self.device)
        half = exact.to(self.screen)
        if start not in self._measures:
            full = exact.float()
            self._measures[start] = Measures(
                float((full - half.float()).norm(dim=1).max()), float(full.norm(dim=1).max())
            )
        return Block(points, exact, half, centroids, ready, self._measures[start])

    def _grouping(self, centroids: Centroids) -> Rows:
        """Return the centroids in groups, (groups, size); neighbours only where bounds are kept."""
        size = self._size(len(centroids))
        if not self._bounds_pay(centroids):
            groups = -(-len(centroids) // GROUP)
            return np.minimum(np.arange(groups * GROUP), len(centroids) - 1).reshape(-1, GROUP)
        return grouped(centroids.vectors, size).reshape(-1, size)

    def _size(self, centroids: int) -> int:
        return max(GROUP, -(-4 * len(self.vectors) * centroids // BOUND_BYTES))

    def _bounds_pay(self, centroids: Centroids) -> bool:
        """Whether a later call can make use of the bounds of this one."""
        few = len(centroids) // self._size(len(centroids)) < FEWEST
        return self.calls + 1 >= SETTLED and not few

    def _drift(self, centroids: Centroids) -> Tensor | None:
        """Return by how much a group's scores may have grown at most, or None to look at everything."""
        before = self._before
        if before is None or len(before) != len(centroids) or not self._bounds:
            return None
        moved = centroids.vectors.astype(np.float64) - before.vectors
        grown = np.sqrt(np.einsum("kd,kd->k", moved, moved)) * (1 + 2.0**-7)
        grown += before.offset - centroids.offset
        assert self._groups is not None
        most = grown[self._groups].max(axis=1)
        # Rounded up, since bounds are float32.
        return torch.from_numpy((most + 1e-6).astype(np.float32)).to(self.device)

    def _prepare(self, centroids: Centroids, groups: Rows) -> Prepared:
        vectors = torch.from_numpy(centroids.vectors).to(self.device)
        offset = torch.from_numpy(centroids.offset.astype(np.float32)).to(self.device)
        places = torch.from_numpy(groups.ravel()).to(self.device)
        half = vectors.to(self.screen)
        return Prepared(
            size=groups.shape[1],
            order=places,
            half=half[places].contiguous(),
            offset=offset[places],
            vectors=vectors,
            exact_offset=offset,
            rounding=float((vectors - half.float()).norm(dim=1).max()),
            longest=float(vectors.norm(dim=1).max()),
        )


class Measures(NamedTuple):
    """How far the screen's rounding moves a point at most, and how long a point is at most."""

    rounding: float
    longest: float


class Block:
    """Points that are looked at together, with the centroids of one call."""

    def __init__(
        self,
        points: Vectors,
        exact: Tensor,
        half: Tensor,
        centroids: Centroids,
        ready: Prepared,
        measures: Measures,
    ) -> None:
        self.points = points
        self.exact = exact
        self.half = half
        self.centroids = centroids
        self.ready = ready
        # Between float32 and itself there is no rounding but that within the product.
        self.relative = HALF if ready.half.dtype == torch.bfloat16 else 0.0
        rounding, longest = measures
        # Cauchy and Schwarz for the two roundings before the product, what float32 loses within it,
        # and the part of the rounding after it that does not depend on the score.
        self.error = 1.01 * (
            rounding * ready.longest
            + (longest + rounding) * ready.rounding
            + rounding_of(points.shape[1])
            + self.relative * float(ready.offset.abs().max())
        )

    def at_most(self, screened: Tensor) -> Tensor:
        """Return the largest score that a screened score can stand for."""
        return screened.float() + self.error + self.relative * screened.float().abs()

    def screened_from(self, score: Tensor) -> Tensor:
        """Return the smallest screened score that can stand for this score or a larger one."""
        rest = score - self.error
        wide = torch.where(rest > 0, rest / (1 + self.relative), rest / (1 - self.relative))
        return wide - 1e-7

    def look_at_all(self) -> tuple[Tensor, Clusters]:
        """Return bounds by group (groups, n) and the nearest centroids."""
        size = self.ready.size
        groups = len(self.ready.order) // size
        bounds = torch.empty((groups, len(self.points)), device=self.exact.device)
        pairs = []
        # As many points at once as keep the scores in the cache.
        for start in range(0, len(self.points), STEP):
            rows = slice(start, start + STEP)
            # Laid out anew, since a transposed factor halves the speed of a bfloat16 product.
            columns = self.half[rows].T.contiguous()
            scores = (self.ready.half @ columns).view(groups, size, -1)
            if self.centroids.offset.any():
                scores = scores.float() - self.ready.offset.view(groups, size, 1)
            best = scores.amax(dim=1)
            bounds[:, rows] = self.at_most(best)
            top = best.amax(dim=0).float()
            least = self.screened_from(top - self.error - self.relative * top.abs())
            group, row = torch.nonzero(best.float() >= least, as_tuple=True)
            member = scores.transpose(1, 2)[group, row].float()
            which, place = torch.nonzero(member >= least[row, None], as_tuple=True)
            pairs.append((row[which] + start, self.ready.order[group[which] * size + place]))
        rows_of, clusters = (torch.cat(part) for part in zip(*pairs, strict=True))
        nearest = np.empty(len(self.points), np.int32)
        self._settle(nearest, rows_of, clusters)
        return bounds, nearest

    def look_again(self, bounds: Tensor, nearest: Clusters) -> tuple[Clusters, float]:
        """Return the nearest centroids, and the share of groups looked at; tightens the bounds.

        Args:
            bounds: the most a point can score in each group, (groups, n); changed in place.
            nearest: the nearest centroid before, (n,).
        """
        own = torch.from_numpy(nearest).to(self.exact.device).long()
        every = torch.arange(len(own), device=own.device)
        least = self._scores(every, own) - rounding_of(self.points.shape[1])
        needed = bounds >= least
        share = float(needed.float().mean())
        if share > FULL:
            fresh, found = self.look_at_all()
            bounds.copy_(fresh)
            return found, 1.0
        pairs = [(every, own)]
        size = self.ready.size
        for group in torch.nonzero(needed.any(dim=1))[:, 0].tolist():
            rows = torch.nonzero(needed[group])[:, 0]
            places = slice(group * size, (group + 1) * size)
            scores = self.ready.half[places] @ self.half[rows].T
            if self.centroids.offset.any():
                scores = scores.float() - self.ready.offset[places, None]
            bounds[group, rows] = self.at_most(scores.amax(dim=0))
            from_here = self.screened_from(least[rows])
            place, which = torch.nonzero(scores.float() >= from_here, as_tuple=True)
            pairs.append((rows[which], self.ready.order[places][place]))
        rows_of, clusters = (torch.cat(part) for part in zip(*pairs, strict=True))
        found = nearest.copy()
        self._settle(found, rows_of, clusters)
        return found, share

    def _settle(self, nearest: Clusters, rows: Tensor, clusters: Tensor) -> None:
        """Write the nearest of the candidates of each row."""
        alone = torch.bincount(rows, minlength=len(self.points))[rows] == 1
        nearest[rows[alone].cpu().numpy()] = clusters[alone].cpu().numpy()
        rows, clusters = rows[~alone], clusters[~alone]
        scores = self._scores(rows, clusters)
        best = torch.full((len(self.points),), -torch.inf, device=scores.device)
        best = best.scatter_reduce(0, rows, scores, "amax")
        close = scores >= best[rows] - 2 * rounding_of(self.points.shape[1])
        rows_close, clusters_close = rows[close].cpu().numpy(), clusters[close].cpu().numpy()
        nearest[rows_close] = clusters_close
        several = np.bincount(rows_close, minlength=len(self.points))[rows_close] > 1
        settled, chosen = decide(
            self.points,
            self.centroids,
            rows_close[several],
            clusters_close[several].astype(np.int32),
        )
        nearest[settled] = chosen

    def _scores(self, rows: Tensor, clusters: Tensor) -> Tensor:
        """Return the float32 score of each pair."""
        result = torch.empty(len(rows), device=self.exact.device)
        for start in range(0, len(rows), 2**14):
            part = slice(start, start + 2**14)
            points = self.exact[rows[part]].float()
            result[part] = (points * self.ready.vectors[clusters[part]]).sum(dim=1)
        return result - self.ready.exact_offset[clusters]


def grouped(centroids: Vectors, size: int) -> Rows:
    """Return the centroids in groups of `size` neighbours each, (groups · size,), some repeated.

    Halved again and again across the direction of largest spread; the grouping costs or saves time and
    never changes a result.
    """
    groups = -(-len(centroids) // size)
    found: list[Rows] = []
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
