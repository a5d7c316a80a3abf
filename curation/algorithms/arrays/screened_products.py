"""The k largest inner products, screened by products in bfloat16 or float32 whose error is bounded.

At least k vectors reach the k-th best screened score minus the bound. A vector whose screened score
plus the bound is smaller than that is not among the k best. Only the others are scored in float32.

The whole product is never in memory: scores are computed in tiles (`device_memory.tile_sizes`), and
the k best so far are kept. The columns of a tile form groups, and only groups whose best score is large
enough are searched.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from curation.algorithms.arrays.rounding import rounding_bound

# Otherwise cuBLAS may add up parts of a product in bfloat16, an error that `ErrorBound` leaves out.
torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False

BFLOAT16_ERROR = 2.0**-8
"""Relative error of rounding to bfloat16, which has 8 significant bits."""


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
        rounded: the vectors as rows, in the memory of `columns`.
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
        rounded = rounded._replace(half=columns[:, : len(exact)].T)
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

    @cached_property
    def largest_offset(self) -> float:
        """The largest size of an offset."""
        return 0.0 if self.offset is None else float(self.offset.abs().max())

    def error(self, queries: RoundedVectors) -> ErrorBound:
        """Return the bound on the error of the scores."""
        return ErrorBound.between(queries, self.rounded, self.largest_offset)


class ScanResult(NamedTuple):
    """The result of `scan`.

    Attributes:
        query: the query of each candidate pair, in no order, (m,).
        place: the row of each candidate pair, counted over all tiles, (m,).
        tops: for each tile the best score of each group, (queries, groups), if they were kept.
        crowded: which queries have no pairs, because too many rows are within the bound, (queries,).
    """

    query: Tensor
    place: Tensor
    tops: list[Tensor]
    crowded: Tensor


def scan(
    queries: RoundedVectors,
    tiles: Iterable[Tile],
    k: int,
    at_least: float | Tensor = -torch.inf,
    keep_tops: bool = False,
) -> ScanResult:
    """Return candidate pairs that contain the k best rows of every query.

    Args:
        queries: rounded queries.
        tiles: the rows that are searched, read once; there is at least one.
        k: how many rows each query wants, at most the number of rows.
        at_least: exact score below which no row is wanted, of all queries or of each, (queries,).
        keep_tops: return the best scores of all groups.
    """
    device, count = queries.half.device, len(queries.half)
    wanted = torch.as_tensor(at_least, device=device)
    error = ErrorBound(0.0, 0.0)
    best = torch.full((count, k), -torch.inf, device=device)
    held = torch.zeros(count, dtype=torch.int64, device=device)
    pairs, tops, first = [], [], 0
    for tile in tiles:
        # The bound of all tiles so far: the k-th best score may be of any of them.
        error = widest_bound((error, tile.error(queries)))
        scores = tile.scores(queries.half)
        top = tile.tops(scores)
        least = error.screened_from(wanted)
        if not _few_reach(least, top, k):
            # Groups share no vector, so the k best tops are scores of k vectors. With fewer than k
            # groups all scores count.
            best = _best(best, top if k <= tile.groups else scores)
            least = torch.maximum(_least_screened(best.amin(dim=1), error), least)
        least[held > most_pairs(k)] = torch.inf
        query, place, score = tile.reaching(least, scores, top)
        held += torch.bincount(query, minlength=count)
        pairs.append((query, place + first, score))
        if keep_tops:
            tops.append(top)
        first += tile.rows
    crowded = held > most_pairs(k)
    query, place, score = pairs[0]
    if len(pairs) > 1:
        query, place, score = (torch.cat(part) for part in zip(*pairs, strict=True))
    least = torch.maximum(_least_screened(best.amin(dim=1), error), error.screened_from(wanted))
    keep = score >= least[query]
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


def _few_reach(least: Tensor, top: Tensor, k: int) -> bool:
    """Whether so few scores reach the thresholds that it does not matter which are the k best.

    Args:
        least: screened score below which no row is wanted, of all queries or of each, (queries,).
        top: the best score of each group, (queries, groups).
        k: how many rows each query wants.
    """
    if not bool((least > -1).all()):
        return False
    reaching = (top >= _round_down(least, top.dtype).expand(len(top))[:, None]).sum(dim=1)
    return int(reaching.max()) <= k


def _best(best: Tensor, scores: Tensor) -> Tensor:
    """Return the k best of earlier best scores (n, k) and new scores (n, m), in any order: (n, k)."""
    k = best.shape[1]
    if k == 1:
        return torch.maximum(best, scores.amax(dim=1, keepdim=True).float())
    # Of a few times k new scores, choosing the best first would take longer.
    if scores.shape[1] > 4 * k:
        scores = scores.topk(k, dim=1, sorted=False).values
    return torch.cat([best, scores.float()], dim=1).topk(k, dim=1, sorted=False).values


def _least_screened(kth: Tensor, error: ErrorBound) -> Tensor:
    """Return the smallest screened score whose exact score may reach that of the k-th best."""
    least: Tensor = error.screened_from(error.at_least(kth))
    return torch.where(kth == -torch.inf, kth, least)


def _round_down(least: Tensor, kind: torch.dtype) -> Tensor:
    """Return thresholds in the type of the scores, rounded down, so that scores need no conversion."""
    return (least - BFLOAT16_ERROR * least.abs()).to(kind) if kind == torch.bfloat16 else least
