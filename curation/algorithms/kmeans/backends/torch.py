"""Nearest centroids by torch: all at first, then those that bounds leave (`screen` and `bounds`)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from curation.algorithms.arrays.screened_products import GROUPS, Rounded, screen_type, steps
from curation.algorithms.arrays.vectors import RowNumbers, Vectors
from curation.algorithms.kmeans.backends.bounds import Again, grouped, loose
from curation.algorithms.kmeans.backends.nearest import Centroids, Clusters
from curation.algorithms.kmeans.backends.screen import Block, Columns, Screen, Step, look_at_all

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


def load(vectors: Vectors, device: str = "cpu") -> TorchNearest:
    """Return the back end for points (n, dim) on a device."""
    return TorchNearest(vectors, device, screen_type(device))


class TorchNearest:
    """Nearest centroids of fixed points; each call may be cheaper than the one before."""

    def __init__(self, vectors: Vectors, device: str, kind: torch.dtype) -> None:
        self.vectors = vectors
        self.device = torch.device(device)
        self.kind = kind
        self.calls = 0
        self.looked_at: list[float] = []
        self._groups: RowNumbers | None = None
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

    def _grouped(self, centroids: Centroids) -> tuple[RowNumbers, Tensor | None]:
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
