"""Candidates for the best products by a bfloat16 screen, for processors that have one.

A bfloat16 product runs three to four times as fast as one in float32, and is wrong by a bounded amount.
The k-th best screened score, less that amount, is a score that k vectors surely reach; whoever cannot
reach it even with the amount added is not among the k best. What remains is scored in float32.

Scores are made in tiles small enough to stay in the cache, a tile's columns lie in groups, and only
groups whose best score is large enough are opened.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from curation.algorithms.arrays.rounding import rounding_bound
from curation.algorithms.arrays.vectors import RowNumbers, Vectors

# Else cuBLAS may add up parts of a product in bfloat16, which `ErrorBound` does not allow for.
torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False

BFLOAT16_ERROR = 2.0**-8
"""Relative error of rounding to bfloat16, which has 8 significant bits."""
GROUPS_PER_TILE = 128
"""Groups of a tile, unless the caller has his own."""
COLUMNS_PER_TILE = 4096
"""Columns of a tile."""
QUERIES_PER_STEP = 1024
"""Queries that meet a tile at once: their scores take 8 MB, and stay in the cache."""
GPU_STEP_FACTOR = 16
"""How many times as many queries a GPU takes at once."""


def is_faster(device: str = "cpu") -> bool:
    """Whether the screen is faster than a float32 product on this device."""
    return screen_type(device) == torch.bfloat16


def screen_type(device: str) -> torch.dtype:
    """Return the type of the screen: bfloat16 where products in it are faster than in float32."""
    fast = (
        torch.device(device).type != "cpu"
        or torch.cpu._is_avx512_bf16_supported()
        or torch.cpu._is_amx_tile_supported()
    )
    return torch.bfloat16 if fast else torch.float32


class RoundedVectors(NamedTuple):
    """Vectors in the screen's type, how far rounding moved one at most, and how long one is at most."""

    half: Tensor
    moved: float
    longest: float

    @classmethod
    def of(cls, exact: Tensor, kind: torch.dtype) -> RoundedVectors:
        """Round vectors (n, dim)."""
        full = exact.float()
        half = exact.to(kind)
        moved = (full - half.float()).norm(dim=1).max() if kind == torch.bfloat16 else 0.0
        return cls(half, float(moved), float(full.norm(dim=1).max()))


class ErrorBound(NamedTuple):
    """A screened score is wrong by at most `fixed` and `relative` times itself."""

    fixed: float
    relative: float

    @classmethod
    def between(
        cls, queries: RoundedVectors, others: RoundedVectors, offset: float = 0.0
    ) -> ErrorBound:
        """Return the error of products of rounded vectors, less an offset of at most that size."""
        # Between float32 and itself there is no rounding but that within the product.
        relative = BFLOAT16_ERROR if queries.half.dtype == torch.bfloat16 else 0.0
        # Cauchy and Schwarz for the two roundings before the product, what float32 loses within it,
        # and the part of the rounding after it that does not depend on the score.
        fixed = (
            queries.moved * others.longest
            + (queries.longest + queries.moved) * others.moved
            + rounding_bound(queries.half.shape[1])
            + relative * offset
        )
        return cls(1.01 * fixed, relative)

    def at_most(self, screened: Tensor) -> Tensor:
        """Return the largest score that a screened score can stand for."""
        return torch.add(self.fixed, screened.abs(), alpha=self.relative).add_(screened)

    def at_least(self, screened: Tensor) -> Tensor:
        """Return the smallest score that a screened score can stand for."""
        return screened - (self.fixed + self.relative * screened.abs())

    def screened_from(self, score: Tensor) -> Tensor:
        """Return the smallest screened score that can stand for this score or a larger one."""
        rest = score - self.fixed
        wide = torch.where(rest > 0, rest / (1 + self.relative), rest / (1 - self.relative))
        return wide - 1e-7


@dataclass(frozen=True)
class Tile:
    """Vectors to be found, as columns: column p is member p // groups of group p % groups.

    Columns from `rows` on only fill up the last group. `offset` (columns,) float32 is taken from the
    scores.
    """

    columns: Tensor
    rounded: RoundedVectors
    groups: int
    rows: int
    offset: Tensor | None = None

    @classmethod
    def of(
        cls, exact: Tensor, kind: torch.dtype, groups: int, offset: Tensor | None = None
    ) -> Tile:
        """Lay out vectors (rows, dim)."""
        rounded = RoundedVectors.of(exact, kind)
        groups = min(groups, len(exact))
        short = -len(exact) % groups
        # Laid out anew, since a transposed factor costs speed in every product.
        columns = torch.nn.functional.pad(rounded.half.T, (0, short)).contiguous()
        if offset is not None:
            offset = torch.nn.functional.pad(offset, (0, short))
        return cls(columns, rounded, groups, len(exact), offset)

    def scores(self, half: Tensor) -> Tensor:
        """Return screened scores (queries, columns)."""
        scores = half @ self.columns
        if self.offset is not None:
            scores = scores.float() - self.offset
        if self.rows < self.columns.shape[1]:
            scores[:, self.rows :] = -torch.inf
        return scores

    def tops(self, scores: Tensor) -> Tensor:
        """Return the best score of each group, (queries, groups)."""
        return scores.view(len(scores), -1, self.groups).amax(dim=1)

    def reaching(self, least: Tensor, scores: Tensor, top: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return query, column and score of the scores that are at least `least` (queries,)."""
        query, group = torch.nonzero(top >= _round_down(least, top.dtype)[:, None], as_tuple=True)
        inside = scores.view(len(scores), -1, self.groups)[query, :, group]
        which, member = torch.nonzero(inside >= least[query, None], as_tuple=True)
        return query[which], member * self.groups + group[which], inside[which, member]

    def error(self, queries: RoundedVectors) -> ErrorBound:
        """Return how wrong the scores are."""
        offset = 0.0 if self.offset is None else float(self.offset.abs().max())
        return ErrorBound.between(queries, self.rounded, offset)


class ScanResult(NamedTuple):
    """Pairs (query, place) in no order, and the best score of each group, (queries, groups) a tile.

    `place` counts the rows of one tile after the other.
    """

    query: Tensor
    place: Tensor
    tops: list[Tensor]


def scan(
    queries: RoundedVectors, tiles: list[Tile], k: int, at_least: float = -torch.inf
) -> ScanResult:
    """Return pairs among which are the k best of each query that reach a score, over all tiles."""
    error = widest_bound(tile.error(queries) for tile in tiles)
    floor = error.screened_from(torch.tensor(at_least, device=queries.half.device))
    best = torch.full((len(queries.half), k), -torch.inf, device=queries.half.device)
    found, tops, first = [], [], 0
    for tile in tiles:
        scores = tile.scores(queries.half)
        top = tile.tops(scores)
        # Members of different groups are different vectors, so the best tops are scores of so many.
        # With too few groups for that, the vectors themselves stand for k.
        best = _best(best, top if k <= tile.groups else scores)
        least = torch.maximum(_least_screened(best[:, -1], error), floor)
        query, place, score = tile.reaching(least, scores, top)
        found.append((query, place + first, score))
        tops.append(top)
        first += tile.rows
    query, place, score = found[0]
    if len(tiles) > 1:
        query, place, score = (torch.cat(part) for part in zip(*found, strict=True))
        left = score >= torch.maximum(_least_screened(best[:, -1], error), floor)[query]
        query, place = query[left], place[left]
    return ScanResult(query, place, tops)


def widest_bound(errors: Iterable[ErrorBound]) -> ErrorBound:
    """Return an error that holds for all of some scores."""
    every = list(errors)
    return ErrorBound(max(e.fixed for e in every), max(e.relative for e in every))


def _best(best: Tensor, scores: Tensor) -> Tensor:
    """Return the k best of those so far and of new scores (n, m), falling: (n, k) float32."""
    k = best.shape[1]
    if k == 1:
        return torch.maximum(best, scores.amax(dim=1, keepdim=True).float())
    top = scores.float() if scores.shape[1] <= k else scores.topk(k, dim=1).values.float()
    return torch.cat([best, top], dim=1).topk(k, dim=1).values


def _least_screened(kth: Tensor, error: ErrorBound) -> Tensor:
    """Return the smallest screened score whose true score may reach that of the k-th best."""
    least: Tensor = error.screened_from(error.at_least(kth))
    return torch.where(kth == -torch.inf, kth, least)


def _round_down(least: Tensor, kind: torch.dtype) -> Tensor:
    """Return at most this much in the type of the scores, so that they need no conversion."""
    return (least - BFLOAT16_ERROR * least.abs()).to(kind) if kind == torch.bfloat16 else least


def candidate_pairs(
    queries: Vectors,
    base: Vectors,
    k: int,
    at_least: float = -torch.inf,
    device: str = "cpu",
) -> tuple[RowNumbers, RowNumbers]:
    """Return pairs (query, base row), each shape (m,), that hold the k nearest rows of every query.

    Pairs are sorted by query. There are about k a query, more where scores lie within rounding of the
    k-th best.

    Args:
        queries: (n, dim), of length about 1.
        base: (rows, dim), of length about 1.
        k: neighbours wanted.
        at_least: score below which nothing is wanted.
        device: `cpu` or `cuda[:n]`.
    """
    rows = torch.from_numpy(np.ascontiguousarray(base)).to(device)
    kind = torch.bfloat16
    tiles = [
        Tile.of(rows[start : start + COLUMNS_PER_TILE], kind, GROUPS_PER_TILE)
        for start in range(0, len(base), COLUMNS_PER_TILE)
    ]
    every, wanted = [], min(k, len(base))
    for start, exact in in_steps(queries, device):
        found = scan(RoundedVectors.of(exact, kind), tiles, wanted, at_least)
        order = torch.argsort(found.query, stable=True)
        query, row = keep_near_pairs(exact, rows, found.query[order], found.place[order], wanted)
        every.append((query.cpu().numpy() + start, row.cpu().numpy()))
    return np.concatenate([q for q, _ in every]), np.concatenate([r for _, r in every])


def in_steps(vectors: Vectors, device: str) -> list[tuple[int, Tensor]]:
    """Return the vectors (n, dim) in parts that are multiplied at once, with where each begins."""
    step = (
        QUERIES_PER_STEP
        if torch.device(device).type == "cpu"
        else QUERIES_PER_STEP * GPU_STEP_FACTOR
    )
    whole = torch.from_numpy(np.ascontiguousarray(vectors))
    return [(i, whole[i : i + step].to(device)) for i in range(0, len(whole), step)]


def keep_near_pairs(
    exact: Tensor, base: Tensor, query: Tensor, row: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """Return the pairs whose float32 score is within rounding of their query's k-th best, or above.

    Args:
        exact: queries (n, dim).
        base: (rows, dim).
        query: of each pair, rising.
        row: of each pair.
        k: neighbours wanted.
    """
    counts = torch.bincount(query, minlength=len(exact))
    crowded = (counts > k)[query]
    if not crowded.any():
        return query, row
    pairs, rows = query[crowded], row[crowded]
    score = pair_scores(exact, base, pairs, rows)
    place = torch.arange(len(query), device=exact.device) - (counts.cumsum(0) - counts)[query]
    table = torch.full((len(exact), int(counts.max())), -torch.inf, device=exact.device)
    table[pairs, place[crowded]] = score
    least = table.topk(min(k, table.shape[1]), dim=1).values[:, -1]
    kept = ~crowded
    kept[crowded] = score >= least[pairs] - 2 * rounding_bound(exact.shape[1])
    return query[kept], row[kept]


def pair_scores(exact: Tensor, base: Tensor, query: Tensor, row: Tensor) -> Tensor:
    """Return the float32 product of each pair (m,)."""
    score = torch.empty(len(query), device=exact.device)
    step = 2**11 if exact.device.type == "cpu" else 2**18
    for start in range(0, len(query), step):
        part = slice(start, start + step)
        left, right = exact.index_select(0, query[part]), base.index_select(0, row[part])
        score[part] = (left.float() * right.float()).sum(dim=1)
    return score
