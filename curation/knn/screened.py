"""Candidates for exact neighbours by a bfloat16 product, for processors that have one.

A bfloat16 product runs two to three times as fast as one in float32, and is wrong by a bounded amount.
The k-th best screened score, less that amount, is a score that k images surely reach; whoever cannot
reach it even with the amount added is no neighbour. What remains is scored in float32.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from curation.kmeans.nearest import rounding_of
from curation.vectors import Vectors

HALF = 2.0**-8
"""Relative error of rounding to bfloat16, which has 8 significant bits."""
GROUP = 64
"""Images whose best score stands for all of them at first."""
QUERIES = 1024
BASE = 8192
"""Queries and images that are multiplied at once: their scores take 16 MB, and stay in the cache."""

Rows = npt.NDArray[np.int64]


def pays(device: str = "cpu") -> bool:
    """Whether the screen is faster than a float32 product on this device."""
    return device != "cpu" or torch.cpu._is_avx512_bf16_supported()


def candidates(queries: Vectors, base: Vectors, k: int, device: str = "cpu") -> tuple[Rows, Rows]:
    """Return pairs (query, base row), each shape (m,), that hold the k nearest rows of every query.

    Pairs are sorted by query. There are about k a query, more where scores lie within rounding of the
    k-th best.

    Args:
        queries: (n, dim), of length about 1.
        base: (rows, dim), of length about 1.
        k: neighbours wanted.
        device: `cpu` or `cuda[:n]`.
    """
    blocks = [_Blocked(base[start : start + BASE], device) for start in range(0, len(base), BASE)]
    found_queries, found_rows = [], []
    for start in range(0, len(queries), QUERIES):
        exact = torch.from_numpy(np.ascontiguousarray(queries[start : start + QUERIES])).to(device)
        query, row = _search(exact, blocks, min(k, len(base)))
        found_queries.append(query.cpu().numpy() + start)
        found_rows.append(row.cpu().numpy())
    return np.concatenate(found_queries), np.concatenate(found_rows)


class _Blocked:
    """Part of the base in groups; the last group is filled up with its last row."""

    def __init__(self, vectors: Vectors, device: str) -> None:
        self.rows = len(vectors)
        self.exact = torch.from_numpy(np.ascontiguousarray(vectors)).to(device)
        short = -len(vectors) % GROUP
        padded = torch.cat([self.exact, self.exact[-1:].expand(short, -1)]) if short else self.exact
        self.half = padded.bfloat16()
        full = self.exact.float()
        self.rounding = float((full - self.half[: self.rows].float()).norm(dim=1).max())
        self.longest = float(full.norm(dim=1).max())


def _search(exact: Tensor, blocks: list[_Blocked], k: int) -> tuple[Tensor, Tensor]:
    half = exact.bfloat16()
    full = exact.float()
    rounding = float((full - half.float()).norm(dim=1).max())
    longest = float(full.norm(dim=1).max())
    # Cauchy and Schwarz for the two roundings before the product, and what float32 loses within.
    error = 1.01 * max(
        rounding * b.longest + (longest + rounding) * b.rounding + rounding_of(exact.shape[1])
        for b in blocks
    )
    best = torch.full((k, len(exact)), -torch.inf, device=exact.device)
    # Laid out anew, since a transposed factor halves the speed of a bfloat16 product.
    columns = half.T.contiguous()
    pairs, first = [], 0
    for block in blocks:
        groups = len(block.half) // GROUP
        scores = (block.half @ columns).view(groups, GROUP, -1)
        tops = scores.amax(dim=1).float()
        # Rows of different groups are different rows, so the best tops are scores of so many rows.
        # With too few groups for that, the rows themselves stand for k.
        stand = tops if groups >= k else scores.view(-1, len(exact))[: block.rows].float()
        merged = torch.cat([best, stand.topk(min(k, len(stand)), dim=0).values])
        best = merged.topk(k, dim=0).values
        least = _reaching(best[-1], error)
        group, query = torch.nonzero(tops >= least, as_tuple=True)
        members = scores.transpose(1, 2)[group, query].float()
        which, place = torch.nonzero(members >= least[query, None], as_tuple=True)
        row = group[which] * GROUP + place
        real = row < block.rows
        pairs.append((query[which][real], row[real] + first, members[which, place][real]))
        first += block.rows
    query, row, score = (torch.cat(part) for part in zip(*pairs, strict=True))
    left = score >= _reaching(best[-1], error)[query]
    return _settled(exact, blocks, query[left], row[left], k)


def _reaching(kth: Tensor, error: float) -> Tensor:
    """Return the smallest screened score whose true score may reach that of the k-th best.

    Both may be wrong by `error`, and by rounding the score itself.
    """
    return kth - 1.05 * (2 * error + 2 * HALF * kth.abs())


def _settled(
    exact: Tensor, blocks: list[_Blocked], query: Tensor, row: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """Return the pairs whose float32 score is within rounding of their query's k-th best, or above."""
    order = torch.argsort(query, stable=True)
    query, row = query[order], row[order]
    score = torch.empty(len(query), device=exact.device)
    for start in range(0, len(query), 2**14):
        part = slice(start, start + 2**14)
        score[part] = (exact[query[part]].float() * _rows(blocks, row[part])).sum(dim=1)
    counts = torch.bincount(query, minlength=len(exact))
    place = torch.arange(len(query), device=exact.device)
    place = place - (counts.cumsum(0) - counts)[query]
    table = torch.full((len(exact), int(counts.max())), -torch.inf, device=exact.device)
    table[query, place] = score
    least = table.topk(min(k, table.shape[1]), dim=1).values[:, -1]
    near = score >= least[query] - 2 * rounding_of(exact.shape[1])
    return query[near], row[near]


def _rows(blocks: list[_Blocked], row: Tensor) -> Tensor:
    found = torch.empty((len(row), blocks[0].exact.shape[1]), device=row.device)
    number = row // BASE
    for block in np.unique(number.cpu().numpy()).tolist():
        own = number == block
        found[own] = blocks[block].exact[row[own] - block * BASE].float()
    return found
