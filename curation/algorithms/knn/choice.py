"""Whether a search or a join is exact or approximate: the cost model behind `auto`."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import Literal

from curation.algorithms.knn.params import IndexParams, JoinParams

EXACT_SEARCH_LIMIT = 2**50
"""Multiplications up to which `auto` searches exactly: about two hours of two cores."""
EXACT_JOIN_LIMIT = 2**46
"""Multiplications up to which `auto` joins the pool with itself exactly. It is lower, because the join
is done for every encoder of copies."""
MIN_SAVING = 4
"""`auto` is approximate only if that costs at most 1 / MIN_SAVING of the multiplications."""
PROBE_COST = 32
"""Cost of a multiplication within inverted lists, in multiplications of exact search. Exact search
multiplies large matrices, which is faster for each number. Measured for the lists of `curation search`;
those of `match` cost less."""
GROWTH_FACTOR = 4
"""Codebooks are trained again when the pool is this many times as large."""


@dataclass(frozen=True)
class SearchChoice:
    """How to search the pool.

    Attributes:
        index: kind of the index.
        nlist: number of inverted lists.
        exact: cost of exact search, in multiplications.
        indexed: cost of search with the index, in multiplications of exact search.
    """

    index: Literal["exact", "ivf_flat", "ivf_pq"]
    nlist: int
    exact: float
    indexed: float


def choose_search(params: IndexParams, queries: int, pool: int, dim: int) -> SearchChoice:
    """Choose how to search the pool.

    Exact search costs queries · pool · dim multiplications. An index costs (pool + queries) · nlist ·
    dim to assign vectors to lists, and queries · pool · dim · nprobe / nlist to search the lists. Each
    multiplication within lists costs PROBE_COST times as much (measured: benchmarks/results/index.md).
    `auto` is exact up to EXACT_SEARCH_LIMIT, and above it if an index would save less than three
    quarters of the cost.

    Args:
        params: the index that the recipe asks for.
        queries: number of images whose neighbours are searched; without any the choice is `exact`.
        pool: number of vectors to search.
        dim: dimension of the vectors.
    """
    nlist = params.nlist or lists_of(pool)
    exact = float(queries) * pool * dim
    indexed = float(pool + queries) * nlist * dim
    indexed += PROBE_COST * exact * min(1.0, params.nprobe / nlist)
    if not queries or not pool:
        return SearchChoice("exact", nlist, exact, indexed)
    if params.index != "auto":
        return SearchChoice(params.index, nlist, exact, indexed)
    use_exact = exact <= EXACT_SEARCH_LIMIT or exact <= MIN_SAVING * indexed
    return SearchChoice("exact" if use_exact else "ivf_flat", nlist, exact, indexed)


@dataclass(frozen=True)
class JoinChoice:
    """How to join vectors with each other.

    Attributes:
        join: kind of the join.
        cells: number of cells.
        exact: cost of the exact join, in multiplications.
        assigning: of the join by cells, the cost of finding the cells of each vector.
        within: of the join by cells, the cost of comparing the vectors of each cell.
    """

    join: Literal["exact", "cells"]
    cells: int
    exact: float
    assigning: float
    within: float

    @property
    def by_cells(self) -> float:
        """Cost of the join by cells, in multiplications."""
        return self.assigning + self.within


def choose_join(spec: JoinParams, rows: int, dim: int) -> JoinChoice:
    """Choose how vectors are joined with each other.

    The exact join costs rows² · dim multiplications. The join by cells costs rows · cells · dim to
    assign vectors to cells, and (spread · rows)² · dim / cells to compare them within cells. `auto` is
    exact up to EXACT_JOIN_LIMIT, some minutes of two cores, and above it if cells would save less than
    three quarters of the cost.

    Args:
        spec: the join that the recipe asks for.
        rows: number of vectors.
        dim: dimension of the vectors.
    """
    cells = lists_of(rows)
    spread = min(spec.spread, cells)
    exact = float(rows) * rows * dim
    assigning = float(rows) * cells * dim
    within = (float(spread) * rows) ** 2 * dim / cells
    use_exact = exact <= EXACT_JOIN_LIMIT or exact <= MIN_SAVING * (assigning + within)
    best: Literal["exact", "cells"] = "exact" if use_exact else "cells"
    join = best if spec.join == "auto" else spec.join
    return JoinChoice(join, cells, exact, assigning, within)


def default_nlist(pool: int) -> int:
    """Return the number of inverted lists for a pool: four times its square root, as FAISS advises."""
    return max(1, 4 * isqrt(pool))


def lists_of(vectors: int) -> int:
    """Return the number of lists, or cells, for so many vectors; no more than vectors."""
    return min(max(1, vectors), default_nlist(rounded_size(vectors)))


def rounded_size(pool: int) -> int:
    """Return the largest power of GROWTH_FACTOR that is at most the size of the pool, or 1.

    Codebooks depend on this number, so that they stay the same while the pool grows a little.
    """
    size = 1
    while size * GROWTH_FACTOR <= pool:
        size *= GROWTH_FACTOR
    return size
