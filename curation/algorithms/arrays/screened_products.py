"""The k largest inner products, screened in bfloat16 on processors with bfloat16 instructions.

A matrix product in bfloat16 is three to four times as fast as in float32, and its error is bounded. At
least k vectors reach the k-th best screened score minus the bound. A vector whose screened score plus
the bound is smaller than that is not among the k best. Only the others are scored in float32.

Scores are computed in tiles that fit in the cache. The columns of a tile form groups, and only groups
whose best score is large enough are searched.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from curation.algorithms.arrays.crowded import nearest_rows
from curation.algorithms.arrays.pair_scores import keep_near_pairs
from curation.algorithms.arrays.rounding import rounding_bound
from curation.algorithms.arrays.vectors import Floor, RowNumbers, Vectors, floor_of_each

# Otherwise cuBLAS may add up parts of a product in bfloat16, an error that `ErrorBound` leaves out.
torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False

BFLOAT16_ERROR = 2.0**-8
"""Relative error of rounding to bfloat16, which has 8 significant bits."""
GROUPS_PER_TILE = 128
"""Groups of a tile, unless the caller chooses the groups."""
COLUMNS_PER_TILE = 4096
"""Columns of a tile."""
QUERIES_PER_STEP = 1024
"""Queries that are multiplied with a tile at once: their scores take 8 MB and fit in the cache."""
GPU_STEP_FACTOR = 16
"""Factor by which a GPU multiplies more queries at once."""


def is_faster(device: str = "cpu") -> bool:
    """Whether screening in bfloat16 is faster than a float32 product on a device."""
    return screen_type(device) == torch.bfloat16


def screen_type(device: str) -> torch.dtype:
    """Return the type of a screen: bfloat16 if the device has instructions for it, else float32."""
    fast = (
        torch.device(device).type != "cpu"
        or torch.cpu._is_avx512_bf16_supported()
        or torch.cpu._is_amx_tile_supported()
    )
    return torch.bfloat16 if fast else torch.float32


class RoundedVectors(NamedTuple):
    """Vectors rounded to the type of the screen.

    Attributes:
        half: the rounded vectors, (n, dim).
        moved: largest distance between a vector and its rounded one.
        longest: largest length of a vector before rounding.
    """

    half: Tensor
    moved: float
    longest: float

    @classmethod
    def of(cls, exact: Tensor, kind: torch.dtype) -> RoundedVectors:
        """Round vectors (n, dim) to a type."""
        full = exact.float()
        half = exact.to(kind)
        moved = (full - half.float()).norm(dim=1).max() if kind == torch.bfloat16 else 0.0
        return cls(half, float(moved), float(full.norm(dim=1).max()))


class ErrorBound(NamedTuple):
    """Bound on the error of a screened score: `fixed`, plus `relative` times the score's size."""

    fixed: float
    relative: float

    @classmethod
    def between(
        cls, queries: RoundedVectors, others: RoundedVectors, offset: float = 0.0
    ) -> ErrorBound:
        """Return the bound for products of rounded vectors.

        Args:
            queries: one factor.
            others: the other factor.
            offset: largest size of a number that is subtracted from the products.
        """
        # Without bfloat16 only the product itself rounds.
        relative = BFLOAT16_ERROR if queries.half.dtype == torch.bfloat16 else 0.0
        # The Cauchy–Schwarz inequality bounds the errors of rounding the two factors. Added are the
        # error of the product itself, and of rounding its result as far as the offset causes it.
        fixed = (
            queries.moved * others.longest
            + (queries.longest + queries.moved) * others.moved
            + rounding_bound(queries.half.shape[1])
            + relative * offset
        )
        return cls(1.01 * fixed, relative)

    def at_most(self, screened: Tensor) -> Tensor:
        """Return the largest exact score that is possible for a screened score."""
        return torch.add(self.fixed, screened.abs(), alpha=self.relative).add_(screened)

    def at_least(self, screened: Tensor) -> Tensor:
        """Return the smallest exact score that is possible for a screened score."""
        return screened - (self.fixed + self.relative * screened.abs())

    def screened_from(self, score: Tensor) -> Tensor:
        """Return the smallest screened score for which this exact score or a larger one is possible."""
        rest = score - self.fixed
        screened = torch.where(rest > 0, rest / (1 + self.relative), rest / (1 - self.relative))
        return screened - 1e-7


@dataclass(frozen=True)
class Tile:
    """Vectors that queries search, laid out as the columns of a matrix, in groups.

    Attributes:
        columns: (dim, columns). Column p is member p // groups of group p % groups.
        rounded: the vectors as rows.
        groups: number of groups.
        rows: number of vectors. Later columns only fill up the groups.
        offset: float32 (columns,), subtracted from the scores; None for zero.
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
        padding = -len(exact) % groups
        # Copied once, since every product with a transposed factor is slower.
        columns = torch.nn.functional.pad(rounded.half.T, (0, padding)).contiguous()
        if offset is not None:
            offset = torch.nn.functional.pad(offset, (0, padding))
        return cls(columns, rounded, groups, len(exact), offset)

    def scores(self, half: Tensor) -> Tensor:
        """Return the screened scores (queries, columns) of rounded queries (queries, dim)."""
        scores = half @ self.columns
        if self.offset is not None:
            scores = scores.float() - self.offset
        if self.rows < self.columns.shape[1]:
            scores[:, self.rows :] = -torch.inf
        return scores

    def tops(self, scores: Tensor) -> Tensor:
        """Return the best score of each group, (queries, groups), of scores (queries, columns)."""
        return scores.view(len(scores), -1, self.groups).amax(dim=1)

    def reaching(self, least: Tensor, scores: Tensor, top: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the scores that reach a query's threshold.

        Args:
            least: the threshold of each query, (queries,).
            scores: (queries, columns).
            top: the best score of each group, (queries, groups).

        Returns:
            Query, column and value of each such score, (m,) each.
        """
        query, group = torch.nonzero(top >= _round_down(least, top.dtype)[:, None], as_tuple=True)
        members = scores.view(len(scores), -1, self.groups)[query, :, group]
        pair, member = torch.nonzero(members >= least[query, None], as_tuple=True)
        return query[pair], member * self.groups + group[pair], members[pair, member]

    def error(self, queries: RoundedVectors) -> ErrorBound:
        """Return the bound on the error of the scores."""
        offset = 0.0 if self.offset is None else float(self.offset.abs().max())
        return ErrorBound.between(queries, self.rounded, offset)


class ScanResult(NamedTuple):
    """The result of `scan`.

    Attributes:
        query: the query of each candidate pair, in no order, (m,).
        place: the row of each candidate pair, counted over all tiles, (m,).
        tops: for each tile the best score of each group, (queries, groups).
        crowded: which queries have no pairs, because too many rows are within the bound, (queries,).
    """

    query: Tensor
    place: Tensor
    tops: list[Tensor]
    crowded: Tensor


def scan(
    queries: RoundedVectors, tiles: list[Tile], k: int, at_least: float | Tensor = -torch.inf
) -> ScanResult:
    """Return candidate pairs that contain the k best rows of every query.

    Args:
        queries: rounded queries.
        tiles: the rows that are searched.
        k: how many rows each query wants, at most the number of rows.
        at_least: exact score below which no row is wanted, of all queries or of each, (queries,).
    """
    error = widest_bound(tile.error(queries) for tile in tiles)
    device, count = queries.half.device, len(queries.half)
    floor = error.screened_from(torch.as_tensor(at_least, device=device))
    best = torch.full((count, k), -torch.inf, device=device)
    held = torch.zeros(count, dtype=torch.int64, device=device)
    pairs, tops, first = [], [], 0
    for tile in tiles:
        scores = tile.scores(queries.half)
        top = tile.tops(scores)
        # Groups share no vector, so the k best tops are scores of k vectors. With fewer than k groups
        # all scores count.
        best = _best(best, top if k <= tile.groups else scores)
        least = torch.maximum(_least_screened(best[:, -1], error), floor)
        least[held > most_pairs(k)] = torch.inf
        query, place, score = tile.reaching(least, scores, top)
        held += torch.bincount(query, minlength=count)
        pairs.append((query, place + first, score))
        tops.append(top)
        first += tile.rows
    crowded = held > most_pairs(k)
    query, place, score = pairs[0]
    if len(tiles) > 1:
        query, place, score = (torch.cat(part) for part in zip(*pairs, strict=True))
    keep = score >= torch.maximum(_least_screened(best[:, -1], error), floor)[query]
    keep &= ~crowded[query]
    return ScanResult(query[keep], place[keep], tops, crowded)


def most_pairs(k: int) -> int:
    """Return how many pairs of a query `scan` holds at most before it gives the query up.

    Args:
        k: how many rows each query wants.
    """
    return max(4 * k, min(64 * (k + 16), 8192))


def widest_bound(errors: Iterable[ErrorBound]) -> ErrorBound:
    """Return a bound that holds wherever one of some bounds does."""
    bounds = list(errors)
    return ErrorBound(max(e.fixed for e in bounds), max(e.relative for e in bounds))


def _best(best: Tensor, scores: Tensor) -> Tensor:
    """Return the k best of earlier best scores (n, k) and new scores (n, m), descending: (n, k)."""
    k = best.shape[1]
    if k == 1:
        return torch.maximum(best, scores.amax(dim=1, keepdim=True).float())
    top = scores.float() if scores.shape[1] <= k else scores.topk(k, dim=1).values.float()
    return torch.cat([best, top], dim=1).topk(k, dim=1).values


def _least_screened(kth: Tensor, error: ErrorBound) -> Tensor:
    """Return the smallest screened score whose exact score may reach that of the k-th best."""
    least: Tensor = error.screened_from(error.at_least(kth))
    return torch.where(kth == -torch.inf, kth, least)


def _round_down(least: Tensor, kind: torch.dtype) -> Tensor:
    """Return thresholds in the type of the scores, rounded down, so that scores need no conversion."""
    return (least - BFLOAT16_ERROR * least.abs()).to(kind) if kind == torch.bfloat16 else least


@dataclass(frozen=True)
class QuerySteps:
    """Queries that stay on a device while one base after another streams past them.

    Attributes:
        vectors: the queries, (n, dim), of length about 1.
        device: `cpu` or `cuda[:n]`.
        steps: the queries that are multiplied at once, each after its first row.
    """

    vectors: Vectors
    device: str
    steps: list[tuple[int, Tensor]]

    @classmethod
    def of(cls, queries: Vectors, device: str) -> QuerySteps:
        """Move queries (n, dim) to a device."""
        return cls(queries, device, in_steps(queries, device))

    def candidate_pairs(
        self,
        base: Vectors,
        k: int,
        at_least: Floor = -2.0,
        order: RowNumbers | None = None,
    ) -> tuple[RowNumbers, RowNumbers]:
        """Return candidate pairs with the k rows of largest inner product of every query.

        There are about k pairs for each query, and more if others are within rounding of the k-th best.

        Args:
            base: (rows, dim), of length about 1.
            k: number of neighbours.
            at_least: score below which no neighbour is wanted, of all queries or of each, (n,).
            order: rows of the base, of equal ones the better first; by default as they are.

        Returns:
            Query and base row of each pair, (m,) each, sorted by query.
        """
        order = np.arange(len(base)) if order is None else order
        floors = floor_of_each(at_least, len(self.vectors))
        rows = torch.from_numpy(np.ascontiguousarray(base)).to(self.device)
        tiles = [
            Tile.of(rows[start : start + COLUMNS_PER_TILE], torch.bfloat16, GROUPS_PER_TILE)
            for start in range(0, len(base), COLUMNS_PER_TILE)
        ]
        pairs, wanted = [], min(k, len(base))
        for start, exact in self.steps:
            floor = torch.from_numpy(floors[start : start + len(exact)].copy()).to(self.device)
            result = scan(RoundedVectors.of(exact, torch.bfloat16), tiles, wanted, floor)
            by_query = torch.argsort(result.query, stable=True)
            query, row = keep_near_pairs(
                exact, rows, result.query[by_query], result.place[by_query], wanted
            )
            pairs.append((query.cpu().numpy() + start, row.cpu().numpy()))
            crowded = torch.nonzero(result.crowded)[:, 0].cpu().numpy() + start
            near = nearest_rows(self.vectors[crowded], base, order, wanted, floors[crowded])
            pairs.append((crowded[near[0]], near[1]))
        queries_of, rows_of = (np.concatenate(part) for part in zip(*pairs, strict=True))
        sorted_pairs = np.argsort(queries_of, kind="stable")
        return queries_of[sorted_pairs], rows_of[sorted_pairs]


def in_steps(vectors: Vectors, device: str) -> list[tuple[int, Tensor]]:
    """Return vectors (n, dim) on a device, in parts to multiply at once, each after its first row."""
    step = (
        QUERIES_PER_STEP
        if torch.device(device).type == "cpu"
        else QUERIES_PER_STEP * GPU_STEP_FACTOR
    )
    rows = torch.from_numpy(np.ascontiguousarray(vectors))
    return [(i, rows[i : i + step].to(device)) for i in range(0, len(rows), step)]
