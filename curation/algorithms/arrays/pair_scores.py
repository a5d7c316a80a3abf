"""Float32 inner products of candidate pairs."""

from __future__ import annotations

import torch
from torch import Tensor

from curation.algorithms.arrays.rounding import rounding_bound


def keep_near_pairs(exact: Tensor, base: Tensor, query: Tensor, row: Tensor, k: int) -> Tensor:
    """Return which pairs (m,) score at least the k-th best of their query in float32, minus rounding.

    Args:
        exact: queries, (n, dim).
        base: (rows, dim).
        query: query of each pair, ascending, (m,).
        row: base row of each pair, (m,).
        k: number of neighbours.
    """
    counts = torch.bincount(query, minlength=len(exact))
    crowded = (counts > k)[query]
    kept = ~crowded
    if kept.all():
        return kept
    pairs, rows = query[crowded], row[crowded]
    score = pair_scores(exact, base, pairs, rows)
    place = torch.arange(len(query), device=exact.device) - (counts.cumsum(0) - counts)[query]
    table = torch.full((len(exact), int(counts.max())), -torch.inf, device=exact.device)
    table[pairs, place[crowded]] = score
    least = table.topk(min(k, table.shape[1]), dim=1).values[:, -1]
    kept[crowded] = score >= least[pairs] - 2 * rounding_bound(exact.shape[1])
    return kept


def pair_scores(exact: Tensor, base: Tensor, query: Tensor, row: Tensor) -> Tensor:
    """Return the float32 inner product of each pair of a query and a base row, (m,)."""
    score = torch.empty(len(query), device=exact.device)
    step = 2**11 if exact.device.type == "cpu" else 2**18
    for start in range(0, len(query), step):
        part = slice(start, start + step)
        left, right = exact.index_select(0, query[part]), base.index_select(0, row[part])
        score[part] = (left.float() * right.float()).sum(dim=1)
    return score
