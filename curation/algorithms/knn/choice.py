"""How the pool is searched: exactly, or by an index; the cost model behind `index: auto`."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import Literal

from curation.algorithms.knn.params import IndexParams, JoinParams

EXACT = 2**50
"""Multiplications up to which `auto` searches exactly: an hour or so of two cores."""
EXACT_JOIN = 2**46
"""The same for joining the pool with itself, which is done for every encoder of copies."""
WORTH = 4
"""How many times fewer multiplications an index must take for `auto` to choose it."""
PROBED = 32
"""What a multiplication within lists costs beside one of exact search, whose products are large."""
GROWN = 4
"""Codebooks are trained anew when the pool has grown so many times."""


@dataclass(frozen=True)
class Choice:
    """How to search, with how many lists, and the costs of both ways in multiplications."""

    index: Literal["exact", "ivf_flat", "ivf_pq"]
    nlist: int
    exact: float
    indexed: float


def choose(params: IndexParams, k: int, queries: int, pool: int, dim: int) -> Choice:
    """Return how to search the `pool` for the `k` nearest of each of `queries` vectors.

    `auto` counts multiplications: queries · pool · dim for exact search; for an index
    (pool + queries) · nlist · dim to find lists, and queries · pool · dim · nprobe / nlist within
    them, each of which costs as much as 32 (measured: benchmarks/results/index.md). It is exact up to
    2^50, and beyond that where an index would not save three quarters.
    """
    nlist = params.nlist or lists_for(scale_of(pool))
    exact = float(queries) * pool * dim
    indexed = float(pool + queries) * nlist * dim
    indexed += PROBED * exact * min(1.0, params.nprobe / nlist)
    if k == 0 or not queries or not pool:
        return Choice("exact", nlist, exact, indexed)
    if params.index != "auto":
        return Choice(params.index, nlist, exact, indexed)
    cheap = exact <= EXACT or exact <= WORTH * indexed
    return Choice("exact" if cheap else "ivf_flat", nlist, exact, indexed)


@dataclass(frozen=True)
class JoinChoice:
    """How to join, with how many cells, and the costs of both ways in multiplications."""

    join: Literal["exact", "cells"]
    cells: int
    exact: float
    by_cells: float


def choose_join(spec: JoinParams, rows: int, dim: int) -> JoinChoice:
    """Return how `rows` vectors are joined with each other: exactly, or by cells.

    `auto` counts multiplications: rows² · dim for the exact join; by cells rows · cells · dim to find
    them, and (spread · rows)² · dim / cells within them. It is exact up to 2^46, some minutes of two
    cores, and beyond that where cells would not save three quarters.
    """
    cells = min(max(rows, 1), lists_for(scale_of(rows)))
    spread = min(spec.spread, cells)
    exact = float(rows) * rows * dim
    by_cells = float(rows) * cells * dim + (float(spread) * rows) ** 2 * dim / cells
    cheap = exact <= EXACT_JOIN or exact <= WORTH * by_cells
    if spec.join != "auto":
        return JoinChoice(spec.join, cells, exact, by_cells)
    return JoinChoice("exact" if cheap else "cells", cells, exact, by_cells)


def lists_for(pool: int) -> int:
    """Return a number of lists for a pool: four times its square root, as FAISS advises."""
    return max(1, 4 * isqrt(pool))


def scale_of(pool: int) -> int:
    """Return the power of GROWN at or below the size of the pool."""
    scale = 1
    while scale * GROWN <= pool:
        scale *= GROWN
    return scale
