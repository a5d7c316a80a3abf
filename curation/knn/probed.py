"""The best vectors within probed lists: each list is multiplied once with all queries that probe it.

Screened in bfloat16 where that is faster (see `screened`). Each query first meets its nearest list,
whose k best leave little of the others to look at. Exact within the lists, and the same for any shards;
with few queries a list FAISS's own lists are faster (benchmarks/results/index.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from curation.kmeans.nearest import Clusters
from curation.knn.screened import Error, Rounded, Rows, near, screen_type
from curation.vectors import Vectors

ALIKE = 64
"""Queries of a list are filled up to a multiple of this, so that few shapes of products occur."""


class Pairs(NamedTuple):
    """Queries, rows of the base, and the most that each pair can score, all (m,)."""

    query: Tensor
    row: Tensor
    at_most: Tensor


def candidates(
    queries: Vectors, base: Vectors, own: Clusters, probes: Rows, k: int, device: str = "cpu"
) -> tuple[Rows, Rows]:
    """Return pairs (query, base row), each shape (m,), that hold the k best of the probed lists.

    Args:
        queries: (n, dim), of length about 1.
        base: (rows, dim), of length about 1.
        own: list of each base row, (rows,).
        probes: lists that each query probes, (n, probe), the nearest first.
        k: neighbours wanted.
        device: `cpu` or `cuda[:n]`.
    """
    lists = _ListsOf(queries, base, own, device)
    # What the k-th best of each query scores at least.
    surely = torch.full((len(queries),), -torch.inf, device=device)
    every = []
    for first, probed in ((True, probes[:, :1]), (False, probes[:, 1:])):
        for query, rows in lists.met(probed):
            every.append(lists.reaching(query, rows, surely, k if first else 0))
    if not every:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    pairs = Pairs(*(torch.cat(part) for part in zip(*every, strict=True)))
    left = pairs.at_most >= surely[pairs.query]
    query, order = torch.sort(pairs.query[left], stable=True)
    query, row = near(lists.queries, lists.base, query, pairs.row[left][order], k)
    return query.cpu().numpy(), row.cpu().numpy()


class _ListsOf:
    """The rows of each list, and the queries that are to meet them."""

    def __init__(self, queries: Vectors, base: Vectors, own: Clusters, device: str) -> None:
        self.kind = screen_type(device)
        self.queries = torch.from_numpy(np.ascontiguousarray(queries)).to(device)
        self.base = torch.from_numpy(np.ascontiguousarray(base)).to(device)
        self.points = Rounded.of(self.queries, self.kind)
        self._order = np.argsort(own, kind="stable")
        self._present, self._start, self._size = np.unique(
            own[self._order], return_index=True, return_counts=True
        )

    def met(self, probes: Rows) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield queries and rows of each list that has both."""
        asking = np.argsort(probes.ravel(), kind="stable")
        asked = probes.ravel()[asking]
        begin = np.searchsorted(asked, self._present)
        end = np.searchsorted(asked, self._present, side="right")
        for number in np.flatnonzero(end > begin):
            who = asking[begin[number] : end[number]] // probes.shape[1]
            start = self._start[number]
            rows = self._order[start : start + self._size[number]]
            device = self.queries.device
            yield torch.from_numpy(who).to(device), torch.from_numpy(rows).to(device)

    def reaching(self, query: Tensor, rows: Tensor, surely: Tensor, k: int) -> Pairs:
        """Return the pairs that may be among the best; with k, raises `surely` by what is here."""
        others = Rounded.of(self.base.index_select(0, rows), self.kind)
        error = Error.between(self.points, others)
        filled = torch.nn.functional.pad(query, (0, -len(query) % ALIKE))
        scores = self.points.half.index_select(0, filled) @ others.half.T
        scores = scores[: len(query)]
        if 0 < k <= len(rows):
            kth = scores.topk(k, dim=1).values[:, -1]
            surely[query] = error.at_least(kth.float())
        least = error.screened_from(surely[query])
        least = torch.where(surely[query] == -torch.inf, surely[query], least)
        which, place = torch.nonzero(scores >= least[:, None], as_tuple=True)
        found = scores[which, place].float()
        return Pairs(query[which], rows[place], error.at_most(found))
