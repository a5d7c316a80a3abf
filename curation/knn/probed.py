"""The best vectors within probed lists: each list is multiplied once with all queries that probe it.

One query at a time, a list is read from memory for each; in batches, a list's product with its queries
runs at the speed of a matrix product, screened in bfloat16 where that is faster (see `screened`).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from curation.kmeans.nearest import Clusters
from curation.knn.screened import Error, Rounded, Rows, _reaching, near, screen_type
from curation.vectors import Vectors

ALIKE = 64
"""Queries of a list are filled up to a multiple of this, so that few shapes of products occur."""


def candidates(
    queries: Vectors, base: Vectors, own: Clusters, probes: Rows, k: int, device: str = "cpu"
) -> tuple[Rows, Rows]:
    """Return pairs (query, base row), each shape (m,), that hold the k best of the probed lists.

    Args:
        queries: (n, dim), of length about 1.
        base: (rows, dim), of length about 1.
        own: list of each base row, (rows,).
        probes: lists that each query probes, (n, probe).
        k: neighbours wanted.
        device: `cpu` or `cuda[:n]`.
    """
    kind = screen_type(device)
    exact = torch.from_numpy(np.ascontiguousarray(queries)).to(device)
    order = np.argsort(own, kind="stable")
    vectors = torch.from_numpy(np.ascontiguousarray(base[order])).to(device)
    points, others = Rounded.of(exact, kind), Rounded.of(vectors, kind)
    error = Error.between(points, others)
    starts = np.searchsorted(own[order], np.arange(int(probes.max()) + 2))
    asking = np.argsort(probes.ravel(), kind="stable")
    asked = np.searchsorted(probes.ravel()[asking], np.arange(int(probes.max()) + 2))
    best = torch.full((len(exact), k), -torch.inf, device=exact.device)
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for number in np.unique(probes).tolist():
        rows = slice(int(starts[number]), int(starts[number + 1]))
        if rows.start == rows.stop:
            continue
        who = asking[asked[number] : asked[number + 1]] // probes.shape[1]
        query = torch.from_numpy(who).to(exact.device)
        filled = torch.nn.functional.pad(query, (0, -len(query) % ALIKE))
        scores = points.half.index_select(0, filled) @ others.half[rows].T
        scores = scores[: len(query)].float()
        top = scores.topk(min(k, scores.shape[1]), dim=1).values
        better = torch.cat([best.index_select(0, query), top], dim=1).topk(k, dim=1).values
        best[query] = better
        which, place = torch.nonzero(
            scores >= _reaching(better[:, -1], error)[:, None], as_tuple=True
        )
        found.append((query[which], place + rows.start, scores[which, place]))
    if not found:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    query, row, score = (torch.cat(part) for part in zip(*found, strict=True))
    left = score >= _reaching(best[:, -1], error)[query]
    query, row = query[left], row[left]
    query, place = torch.sort(query, stable=True)
    query, row = near(exact, vectors, query, row[place], k)
    return query.cpu().numpy(), order[row.cpu().numpy()]
