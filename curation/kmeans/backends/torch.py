"""Nearest centroids by torch: screened in bfloat16, settled exactly, with bounds kept between calls.

A point's score against every member of a group of centroids is at most the best it had when last
looked at plus how far the group's members have moved since (the bounds by group of Yinyang k-means,
Ding et al. 2015, section 3, for inner products). A few members of each group move much further than the
others; those are looked at in every call, so that the bound grows by what the others moved only. Of the
others, only groups whose bound reaches the score of the point's own centroid are looked at again.

Looking is a bfloat16 product whose error is bounded, so that only centroids within the bound remain to
be scored in float32, and those within rounding in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from curation.kmeans.nearest import Centroids, Clusters, Rows, decide, rounding_of
from curation.knn.screened import (
    GROUPS,
    TILE,
    Error,
    Rounded,
    Tile,
    scan,
    scores_of,
    screen_type,
    steps,
)
from curation.vectors import Vectors

BLOCK = 2**15
"""Points whose bounds are looked through at once: their vectors take 16 MB at 256 dimensions."""
SMALL, LARGE = 16, 64
"""Centroids in a group: fewer make products too narrow, more make bounds too wide."""
BOUND_BYTES = 2**31
"""Memory for bounds; where it would not do, groups are larger."""
SETTLED = 1
"""Calls that keep no bounds: centroids jump at first, so bounds would not hold."""
FEWEST = 8
"""Groups from which keeping bounds pays."""
LOOSE = 4
"""One in so many members of a group is looked at in every call: those that moved most."""
FULL = 0.12
"""Share of groups to look at from which looking at all of them at once is faster."""
ALIKE = 512
"""Points looked at in one group are filled up to a multiple of this."""


def load(vectors: Vectors, device: str = "cpu") -> TorchNearest:
    """Return the back end for points (n, dim) on a device."""
    return TorchNearest(vectors, device, screen_type(device))


class Columns(NamedTuple):
    """Centroids in tiles for a scan, and the number of the centroid in each column."""

    tiles: list[Tile]
    order: Tensor

    @classmethod
    def of(cls, groups: Rows, screen: Screen) -> Columns:
        """Lay out centroids by group, (groups, size)."""
        together = max(1, TILE // groups.shape[1])
        parts = [groups[i : i + together].T for i in range(0, len(groups), together)]
        orders = [torch.from_numpy(part.ravel()).to(screen.vectors.device) for part in parts]
        tiles = [
            Tile.of(screen.vectors[order], screen.kind, part.shape[1], screen.shift(order))
            for order, part in zip(orders, parts, strict=True)
        ]
        return cls(tiles, torch.cat(orders))

    def tops(self, tops: list[Tensor], points: Rounded) -> Tensor:
        """Return the most that points can score in each group, (groups, n)."""
        every = [
            tile.error(points).at_most(top.float()).T
            for tile, top in zip(self.tiles, tops, strict=True)
        ]
        return torch.cat(every)


@dataclass(frozen=True)
class Screen:
    """Centroids (k, dim) of one call on a device, and their groups (groups, size), some repeated."""

    centroids: Centroids
    groups: Rows
    kind: torch.dtype
    vectors: Tensor
    offset: Tensor

    @classmethod
    def of(
        cls, centroids: Centroids, groups: Rows, kind: torch.dtype, device: torch.device
    ) -> Screen:
        """Take centroids to a device."""
        vectors = torch.from_numpy(centroids.vectors).to(device)
        offset = torch.from_numpy(centroids.offset.astype(np.float32)).to(device)
        return cls(centroids, groups, kind, vectors, offset)

    def shift(self, order: Tensor) -> Tensor | None:
        """Return the offsets of some centroids, or None where all are zero."""
        return self.offset[order] if self.centroids.offset.any() else None

    def scores(self, exact: Tensor, rows: Tensor, clusters: Tensor) -> Tensor:
        """Return the float32 score of each pair of a point and a centroid."""
        return scores_of(exact, self.vectors, rows, clusters) - self.offset[clusters]


class TorchNearest:
    """Nearest centroids of fixed points; each call may be cheaper than the one before."""

    def __init__(self, vectors: Vectors, device: str, kind: torch.dtype) -> None:
        self.vectors = vectors
        self.device = torch.device(device)
        self.kind = kind
        self.calls = 0
        self.looked_at: list[float] = []
        self._groups: Rows | None = None
        self._before: Centroids | None = None
        self._bounds: list[Tensor] = []
        self._nearest: Clusters = np.empty(0, np.int32)
        self._measured: dict[int, tuple[float, float]] = {}

    def assign(self, centroids: Centroids) -> Clusters:
        """Return for each point the centroid of largest float64 score, ties to the smaller number."""
        groups, drift = self._grouped(centroids)
        screen = Screen.of(centroids, groups, self.kind, self.device)
        columns = Columns.of(groups, screen)
        again = None if drift is None else Again.of(screen, drift)
        bounded = self._bounds_pay(centroids)
        nearest = np.empty(len(self.vectors), np.int32)
        looked_at = 0.0
        for number, start in enumerate(range(0, len(self.vectors), BLOCK)):
            part = slice(start, min(start + BLOCK, len(self.vectors)))
            block = Block(self.vectors[part], self._steps(part), screen)
            if again is not None:
                own = torch.from_numpy(self._nearest[part]).to(self.device).long()
                found = again.look(block, self._bounds[number], own)
                if found is not None:
                    nearest[part], share = found
                    looked_at += share * len(block.points)
                    continue
            if bounded and number == len(self._bounds):
                room = torch.empty((len(groups), len(block.points)), device=self.device)
                self._bounds.append(room)
            nearest[part] = look_at_all(block, columns, self._bounds[number] if bounded else None)
            looked_at += len(block.points)
        self.looked_at.append(looked_at / max(len(self.vectors), 1))
        self._nearest, self._before = nearest, centroids
        self.calls += 1
        return nearest

    def _steps(self, block: slice) -> list[Step]:
        """Return points in the screen's type; how far rounding moves them is measured once."""
        found = []
        for start, exact in steps(self.vectors[block], str(self.device)):
            known = self._measured.get(block.start + start)
            if known is None:
                rounded = Rounded.of(exact, self.kind)
                self._measured[block.start + start] = rounded.moved, rounded.longest
            else:
                rounded = Rounded(exact.to(self.kind), *known)
            found.append(Step(start, exact, rounded))
        return found

    def _grouped(self, centroids: Centroids) -> tuple[Rows, Tensor | None]:
        """Return groups (groups, size), those that moved most first, and by how much scores may have
        grown by group, the loose members left out; None if everything has to be looked at."""
        before, groups = self._before, self._groups
        if not self._bounds_pay(centroids):
            size = -(-len(centroids) // GROUPS)
            parts = -(-len(centroids) // size)
            return np.minimum(np.arange(parts * size), len(centroids) - 1).reshape(-1, size), None
        if before is None or groups is None or not self._bounds or len(before) != len(centroids):
            size = self._size(len(centroids))
            self._groups, self._bounds = grouped(centroids.vectors, size).reshape(-1, size), []
            return self._groups, None
        moved = centroids.vectors.astype(np.float64) - before.vectors
        grown = np.sqrt(np.einsum("kd,kd->k", moved, moved)) * (1 + 2.0**-7)
        grown += before.offset - centroids.offset
        groups = np.take_along_axis(groups, np.argsort(-grown[groups], axis=1), axis=1)
        most = grown[groups[:, loose(groups)]]
        # Rounded up, since bounds are float32.
        return groups, torch.from_numpy((most + 1e-6).astype(np.float32)).to(self.device)

    def _size(self, centroids: int) -> int:
        fit = -(-4 * len(self.vectors) * centroids // BOUND_BYTES)
        return max(SMALL, min(LARGE, centroids // LARGE), fit)

    def _bounds_pay(self, centroids: Centroids) -> bool:
        """Whether a later call can make use of the bounds of this one."""
        few = len(centroids) // self._size(len(centroids)) < FEWEST
        return self.calls >= SETTLED and not few


def loose(groups: Rows) -> int:
    """Return how many members of a group are looked at in every call."""
    size: int = groups.shape[1]
    return size // LOOSE


Pairs = tuple[Tensor, Tensor]
"""Points and centroids, each (m,)."""


class Step(NamedTuple):
    """Some points of a block, from its row `start` on."""

    start: int
    exact: Tensor
    rounded: Rounded


class Block:
    """Points that are looked at together, with the centroids of one call."""

    def __init__(self, points: Vectors, steps: list[Step], screen: Screen) -> None:
        self.points = points
        self.steps = steps
        self.screen = screen
        self.nearest: Clusters = np.empty(len(points), np.int32)

    @cached_property
    def whole(self) -> Step:
        """Return all points as one step."""
        return Step(
            0,
            torch.cat([step.exact for step in self.steps]),
            Rounded(
                torch.cat([step.rounded.half for step in self.steps]),
                max(step.rounded.moved for step in self.steps),
                max(step.rounded.longest for step in self.steps),
            ),
        )

    def settle(self, step: Step, rows: Tensor, clusters: Tensor) -> None:
        """Write the nearest of the candidate pairs (row in step, cluster), all those of each row."""
        nearest = self.nearest[step.start : step.start + len(step.exact)]
        several = (torch.bincount(rows, minlength=len(nearest)) > 1)[rows]
        nearest[rows[~several].cpu().numpy()] = clusters[~several].cpu().numpy()
        rows, clusters = rows[several], clusters[several]
        scores = self.screen.scores(step.exact, rows, clusters)
        best = torch.full((len(nearest),), -torch.inf, device=scores.device)
        best = best.scatter_reduce(0, rows, scores, "amax")
        close = scores >= best[rows] - 2 * rounding_of(self.points.shape[1])
        rows_close, clusters_close = rows[close].cpu().numpy(), clusters[close].cpu().numpy()
        nearest[rows_close] = clusters_close
        several = np.bincount(rows_close, minlength=len(nearest))[rows_close] > 1
        settled, chosen = decide(
            self.points,
            self.screen.centroids,
            rows_close[several] + step.start,
            clusters_close[several].astype(np.int32),
        )
        self.nearest[settled] = chosen


def look_at_all(block: Block, columns: Columns, bounds: Tensor | None) -> Clusters:
    """Return the nearest centroids; writes the most a point can score to bounds (groups, n)."""
    for step in block.steps:
        found = scan(step.rounded, columns.tiles, 1)
        if bounds is not None:
            own = slice(step.start, step.start + len(step.exact))
            bounds[:, own] = columns.tops(found.tops, step.rounded)
        block.settle(step, found.query, columns.order[found.place])
    return block.nearest


@dataclass(frozen=True)
class Again:
    """Looking at centroids that moved a little: the loose ones, and groups whose bound is in reach.

    `tight` (groups, size) are the other members, `rows` (groups · size, dim) their vectors.
    """

    drift: Tensor
    loose: Columns
    tight: Tensor
    rows: Rounded
    offset: Tensor | None

    @classmethod
    def of(cls, screen: Screen, drift: Tensor) -> Again:
        """Lay out centroids whose groups have the loose members first."""
        many = loose(screen.groups)
        tight = np.ascontiguousarray(screen.groups[:, many:])
        order = torch.from_numpy(tight).to(screen.vectors.device)
        return cls(
            drift,
            Columns.of(np.ascontiguousarray(screen.groups[:, :many]), screen),
            order,
            Rounded.of(screen.vectors[order.ravel()], screen.kind),
            screen.shift(order.ravel()),
        )

    def look(self, block: Block, bounds: Tensor, own: Tensor) -> tuple[Clusters, float] | None:
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
        if share > FULL:
            return None
        pairs = self._look_at_groups(block, needed, least, bounds)
        for step in block.steps:
            pairs.append(self._look_at_loose(step, least, bounds))
        rows, clusters = (torch.cat(part) for part in zip(*pairs, strict=True))
        # A point's own centroid is loose, or in a group that is needed: no point is without a pair.
        block.settle(block.whole, rows, clusters)
        return block.nearest, share

    def _least(self, block: Block, own: Tensor) -> Tensor:
        """Return what the own centroid of each point scores at least, (n,)."""
        scores = []
        for step in block.steps:
            every = torch.arange(len(step.exact), device=own.device)
            clusters = own[step.start : step.start + len(step.exact)]
            scores.append(block.screen.scores(step.exact, every, clusters))
        return torch.cat(scores) - rounding_of(block.points.shape[1])

    def _look_at_groups(
        self, block: Block, needed: Tensor, least: Tensor, bounds: Tensor
    ) -> list[Pairs]:
        """Return what reaches `least` (n,) of the groups needed (groups, n); tightens their bounds."""
        points = block.whole.rounded
        most = 0.0 if self.offset is None else float(self.offset.abs().max())
        error = Error.between(points, self.rows, most)
        from_here = error.screened_from(least)
        size = self.tight.shape[1]
        pairs = []
        for number, members in enumerate(self.tight):
            rows = torch.nonzero(needed[number])[:, 0]
            own = slice(number * size, (number + 1) * size)
            # Products of few different shapes, since oneDNN compiles code for each.
            filled = torch.nn.functional.pad(rows, (0, -len(rows) % ALIKE))
            scores = self.rows.half[own] @ points.half.index_select(0, filled).T
            scores = scores[:, : len(rows)]
            if self.offset is not None:
                scores = scores.float() - self.offset[own, None]
            bounds[number, rows] = error.at_most(scores.amax(dim=0).float())
            place, which = torch.nonzero(scores >= from_here[rows], as_tuple=True)
            pairs.append((rows[which], members[place]))
        return pairs

    def _look_at_loose(self, step: Step, least: Tensor, bounds: Tensor) -> Pairs:
        """Return which of the loose members reach `least` (n,); widens bounds to hold for them."""
        part = slice(step.start, step.start + len(step.exact))
        every, tops, first = [], [], 0
        for tile in self.loose.tiles:
            scores = tile.scores(step.rounded.half)
            top = tile.tops(scores)
            from_here = tile.error(step.rounded).screened_from(least[part])
            row, column, _ = tile.reaching(from_here, scores, top)
            every.append((row + step.start, self.loose.order[column + first]))
            tops.append(top)
            first += tile.rows
        loose = self.loose.tops(tops, step.rounded)
        bounds[:, part] = torch.maximum(bounds[:, part], loose)
        rows, clusters = (torch.cat(part) for part in zip(*every, strict=True))
        return rows, clusters


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
