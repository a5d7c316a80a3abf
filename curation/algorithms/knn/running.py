"""The nearest images of a block of queries, kept while a base streams past it part by part."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from curation.algorithms.arrays.vectors import Floors, Ids, RowNumbers, Vectors
from curation.algorithms.knn.exact import (
    SCREEN_FROM_PRODUCTS,
    Base,
    Candidates,
    merge,
    search,
    search_steps,
)
from curation.engine.device import CPU

EMPTY = -2.0
"""The similarity of a place that no image has taken; a cosine is larger."""


class RunningNearest:
    """The k nearest images of each query among those that were added.

    A later part of the base is searched only for images that are at least as near as a query's k-th so
    far, so that few are found. The queries stay on the device.

    Args:
        queries: unit vectors, shape (n, dim).
        k: images of each query.
        expected: rows of the base that will be added in all, about.
        device: `cpu` or `cuda[:n]`.
    """

    def __init__(self, queries: Vectors, k: int, expected: int, device: str = CPU) -> None:
        self._queries, self._k, self._device = queries, k, device
        self._similarity: Floors = np.full((len(queries), k), EMPTY, np.float32)
        self._ids: Ids = np.zeros((len(queries), k), "S32")
        self._steps = None
        if device != CPU or queries.size * expected >= SCREEN_FROM_PRODUCTS:
            # The import of torch takes seconds, which small searches are spared.
            from curation.algorithms.arrays import screen_choice
            from curation.algorithms.arrays.nearest_pairs import QuerySteps

            if screen_choice.is_faster(device):
                self._steps = QuerySteps(queries, device)

    def add(self, base: Base, queries: RowNumbers | None = None) -> None:
        """Take in images.

        Args:
            base: the images.
            queries: ascending numbers of the queries that look at them; by default all.
        """
        if not len(base.vectors) or not len(self._queries):
            return
        if queries is not None:
            floors = self._similarity[queries, -1]
            near = search(self._queries[queries], base, self._k, floors, self._device)
            self._keep(Candidates(queries[near.query], near.ids, near.similarity))
        elif self._steps is not None:
            self._keep(search_steps(self._steps, base, self._k, self._similarity[:, -1]))
        else:
            floors = self._similarity[:, -1]
            self._keep(search(self._queries, base, self._k, floors, self._device))

    def _keep(self, nearest: Candidates) -> None:
        changed = np.unique(nearest.query)
        best = merge([self._held(changed), nearest], self._k)
        place = best.rank() - 1
        self._similarity[changed] = EMPTY
        self._similarity[best.query, place] = best.similarity
        self._ids[best.query, place] = best.ids

    def _held(self, queries: RowNumbers) -> Candidates:
        """Return what some queries have so far."""
        row, place = np.nonzero(self._similarity[queries] > EMPTY)
        query = queries[row]
        return Candidates(query, self._ids[query, place], self._similarity[query, place])

    def candidates(self, rows: int) -> Iterator[Candidates]:
        """Yield the nearest images of all queries.

        Args:
            rows: pairs that are yielded at once, or those of one query if they are more.
        """
        step = max(1, rows // self._k)
        for first in range(0, len(self._queries), step):
            yield self._held(np.arange(first, min(first + step, len(self._queries))))
